"""Surgery on gradients as functions of matrices: PCGrad, GradNorm, torchjd, and the Jacobian."""

from __future__ import annotations

import importlib.util
from typing import Any, get_args

import numpy as np
import pytest
import torch
from jaxtyping import Float
from synthetic import batch_of, vector_tasks
from torch import Tensor

from learner.batches import to_device
from learner.gradients.aggregate import GradientSurgery
from learner.gradients.cosines import cosines, inner_products
from learner.gradients.gradnorm import first_state, gradnorm_step
from learner.gradients.jacobian import outputs_by_task, partition, task_gradients
from learner.gradients.pcgrad import independent_orders, pcgrad_weights
from learner.gradients.torchjd_adapter import TorchjdAggregator
from learner.gradients.unrolls import UnrollGradients, UnrollOutputs
from learner.vtrace import outputs_of, vtrace_loss
from repertory.config import GradientConfig, NetworkConfig, PopArtConfig, VTraceConfig
from repertory.config.gradients import GradientMethod, missing_packages
from repertory.errors import BadInput
from repertory.networks.actor_critic import build_network
from repertory.networks.task_mlp import TaskMlp

METHODS = [method for method in get_args(GradientMethod) if method.startswith("torchjd:")]


def installed(method: str) -> Any:
    """Return a method as a parameter that is skipped where a package of its is missing."""
    missing = missing_packages(method)
    return pytest.param(method, marks=pytest.mark.skipif(bool(missing), reason=f"no {missing}"))


def surgery_of(method: str, tasks: int, **settings: Any) -> GradientSurgery:
    """Return a fresh surgery by this method."""
    names = [f"task{index}" for index in range(tasks)]
    return GradientSurgery(GradientConfig(method=method, **settings), names, 1)  # type: ignore[arg-type]


def joined(surgery: GradientSurgery, rows: Tensor, kept: list[bool] | None = None) -> Tensor:
    """Return the direction of an actor's gradients, of which all count unless `kept` says."""
    tasks = rows.shape[0]
    return surgery.direction(
        "critic",
        rows,
        kept=torch.tensor(kept or [True] * tasks),
        losses=torch.ones(tasks),
        last=slice(0, 2),
    )


def slow_pcgrad(gradients: np.ndarray, order: np.ndarray) -> np.ndarray:
    """PCGrad as printed, vector by vector; averaged."""
    total = np.zeros(gradients.shape[1])
    for task, others in enumerate(order):
        mine = gradients[task].copy()
        for other in others:
            product = mine @ gradients[other]
            if product < 0:
                mine = mine - product / (gradients[other] @ gradients[other]) * gradients[other]
        total += mine
    return total / len(gradients)


def conflicting(tasks: int, size: int, seed: int = 0) -> Float[Tensor, "M P"]:
    """Return random gradients, many pairs of which oppose each other."""
    return torch.randn(tasks, size, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("tasks", [2, 3, 7])
def test_pcgrad_on_the_gram_matrix_is_pcgrad_on_vectors(tasks: int) -> None:
    generator = torch.Generator().manual_seed(tasks)
    operated = 0
    for seed in range(20):
        rows = conflicting(tasks, 5, seed)
        order = independent_orders(tasks, generator)
        direction = pcgrad_weights(rows @ rows.T, order) @ rows
        expected = slow_pcgrad(rows.numpy(), order.numpy())
        np.testing.assert_allclose(direction.numpy(), expected, rtol=1e-9, atol=1e-12)
        operated += not np.allclose(expected, rows.mean(0).numpy(), rtol=1e-3)
    assert operated > 5


def test_each_task_meets_all_the_others_in_an_order_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        order = independent_orders(3, generator).tolist()
        assert [sorted(each) for each in order] == [[1, 2], [0, 2], [0, 1]]
        seen.add(tuple(each[0] < each[1] for each in order))
    # One order for all tasks would give some of the eight combinations never.
    assert len(seen) == 8


@pytest.mark.parametrize("method", ["pcgrad", "torchjd:upgrad", "torchjd:pcgrad"])
def test_orthogonal_gradients_are_averaged_and_opposed_ones_cancel(method: str) -> None:
    orthogonal = torch.diag(torch.tensor([3.0, 1.0, 0.5]))
    direction = joined(surgery_of(method, 3), orthogonal)
    torch.testing.assert_close(direction, orthogonal.mean(0), rtol=1e-5, atol=1e-6)
    one = torch.tensor([1.0, -2.0, 0.5])
    opposed = torch.stack([one, -2.0 * one])
    direction = joined(surgery_of(method, 2), opposed)
    torch.testing.assert_close(direction, torch.zeros(3), rtol=0, atol=1e-3)


def test_for_two_tasks_torchjds_pcgrad_is_ours() -> None:
    rows = torch.tensor([[1.0, 2.0, 0.0], [-2.0, 0.5, 1.0]])
    assert rows[0] @ rows[1] < 0
    ours, theirs = (joined(surgery_of(m, 2), rows) for m in ("pcgrad", "torchjd:pcgrad"))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
@pytest.mark.parametrize("method", [installed(method) for method in METHODS])
def test_torchjds_methods_are_of_the_means_scale_and_see_no_task_left_out(method: str) -> None:
    gradient = torch.randn(6, generator=torch.Generator().manual_seed(3))
    before = torch.get_rng_state()
    length = joined(surgery_of(method, 3), gradient.expand(3, -1).clone()) @ gradient
    share = float(length / (gradient @ gradient))
    match method:
        case "torchjd:nashmtl" | "torchjd:fairgrad":
            assert share > 0.0
        case "torchjd:cagrad":
            assert share == pytest.approx(1.5, abs=1e-3)
        case _:
            assert share == pytest.approx(1.0, abs=1e-3)
    rows = conflicting(3, 6).float()
    with_hole = torch.zeros(4, 6)
    with_hole[[0, 1, 3]] = rows
    direction = joined(surgery_of(method, 4), with_hole, [True, True, False, True])
    assert direction.isfinite().all()
    expected = 0.75 * joined(surgery_of(method, 3), rows)
    torch.testing.assert_close(direction, expected, rtol=1e-4, atol=1e-5)
    # Draws come out of the learner's stream and leave torch's own alone.
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("method", ["pcgrad", "gradnorm", "torchjd:upgrad"])
def test_one_task_left_or_none_is_the_plain_mean(method: str) -> None:
    rows = conflicting(3, 4).float()
    rows[:2] = 0.0
    direction = joined(surgery_of(method, 3), rows, [False, False, True])
    torch.testing.assert_close(direction, rows[2] / 3)
    direction = joined(surgery_of(method, 3), torch.zeros(3, 4), [False] * 3)
    torch.testing.assert_close(direction, torch.zeros(4))


@pytest.mark.parametrize("method", ["pcgrad", "gradnorm", "torchjd:graddrop"])
def test_gradients_that_are_not_finite_move_neither_orders_nor_weights(method: str) -> None:
    surgery = surgery_of(method, 3)
    rows = conflicting(3, 4).float()
    joined(surgery, rows)
    before = surgery.state()
    rows[1, 2] = torch.nan
    assert not joined(surgery, rows).isfinite().all()
    after = surgery.state()
    np.testing.assert_array_equal(before["generator"], after["generator"])
    for name, entry in before["gradnorm"].items():
        np.testing.assert_array_equal(entry, after["gradnorm"][name])


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
@pytest.mark.parametrize("method", [installed("torchjd:nashmtl")])
def test_nash_mtl_goes_on_to_the_bit_where_tasks_are_left_out_now_and_then(method: str) -> None:
    kept = [[True] * 4, [True] * 4, [True, False, True, True], [True] * 4]
    rows = [conflicting(4, 9, seed).float() for seed in range(len(kept))]

    def solutions(stop: str) -> list[np.ndarray]:
        surgery, found = surgery_of(method, 4), []
        for update, (each, seen) in enumerate(zip(rows, kept, strict=True)):
            masked = torch.where(torch.tensor(seen).unsqueeze(1), each, 0.0)
            joined(surgery, masked, seen)
            # In float64: directions in float32 hide where the solver began.
            solver = surgery._torchjd["critic"]._aggregator.weighting
            found.append(np.array(solver.prvs_alpha))
            if update == 1 and stop != "never":
                state = surgery.state()
                if stop == "resumed":
                    surgery = surgery_of(method, 4)
                    surgery.restore(state)
        return found

    whole = solutions("never")
    for stop in ("saved", "resumed"):
        for one, other in zip(whole, solutions(stop), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_solver_that_fails_gives_way_to_the_mean_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    aggregator = TorchjdAggregator(GradientConfig(method="torchjd:upgrad"))
    # Their inner products overflow.
    rows = torch.full((2, 3), 1e30)
    torch.testing.assert_close(aggregator(rows, torch.Generator()), rows.mean(0))
    assert aggregator.fallbacks == 1
    assert "gave way to the mean" in caplog.text


def twin_gradnorm(
    norms: np.ndarray, losses: np.ndarray, kept: np.ndarray, asymmetry: float, rate: float
) -> list[np.ndarray]:
    """GradNorm with loops over tasks; returns the weights before each update and after the last."""
    steps, tasks = norms.shape
    weights, first, second = np.ones(tasks), np.zeros(tasks), np.zeros(tasks)
    count, initial = np.zeros(tasks), np.full(tasks, np.nan)
    found = [weights.copy()]
    for step in range(steps):
        on = [task for task in range(tasks) if kept[step, task]]
        for task in on:
            if np.isnan(initial[task]):
                initial[task] = losses[step, task]
        ratio = {task: losses[step, task] / initial[task] for task in on}
        middle = np.mean([weights[task] * norms[step, task] for task in on])
        for task in on:
            rival = middle * (ratio[task] / np.mean(list(ratio.values()))) ** asymmetry
            slope = np.sign(weights[task] * norms[step, task] - rival) * norms[step, task]
            count[task] += 1
            first[task] = 0.9 * first[task] + 0.1 * slope
            second[task] = 0.999 * second[task] + 0.001 * slope**2
        moved = weights.copy()
        for task in on:
            mean = first[task] / (1 - 0.9 ** count[task])
            root = np.sqrt(second[task] / (1 - 0.999 ** count[task]))
            moved[task] = max(moved[task] - rate * mean / (root + 1e-8), 1e-3)
        weights = moved * tasks / moved.sum()
        found.append(weights.copy())
    return found


def test_gradnorm_is_its_twin_in_numpy_with_constant_targets() -> None:
    random = np.random.default_rng(0)
    norms, losses = random.uniform(0.1, 3.0, (30, 4)), random.uniform(0.1, 2.0, (30, 4))
    kept = random.random((30, 4)) < 0.8
    kept[:, 0] = True
    kept[0, 3] = False
    expected = twin_gradnorm(norms, losses, kept, 1.5, 0.05)
    state = first_state(4)
    for step in range(30):
        np.testing.assert_allclose(state.weights.numpy(), expected[step], rtol=1e-12)
        state = gradnorm_step(
            state,
            norms=torch.from_numpy(norms[step]),
            losses=torch.from_numpy(losses[step]),
            kept=torch.from_numpy(kept[step]),
            asymmetry=1.5,
            learning_rate=0.05,
        )
        assert float(state.weights.sum()) == pytest.approx(4.0)
    np.testing.assert_allclose(state.weights.numpy(), expected[-1], rtol=1e-12)
    assert np.ptp(expected[-1]) > 0.2
    assert state.initial.tolist() == [losses[kept[:, task].argmax(), task] for task in range(4)]


def test_gradnorm_lowers_the_weight_of_the_task_with_the_largest_gradient() -> None:
    surgery = surgery_of("gradnorm", 2)
    rows = torch.tensor([[10.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    torch.testing.assert_close(joined(surgery, rows), rows.mean(0))
    for _ in range(10):
        joined(surgery, rows)
    metrics = surgery.metrics()
    large, small = (metrics[f"task/task{index}/gradient_weight"] for index in range(2))
    assert large < 0.9 < 1.1 < small
    # What it weighs is losses of critics: an actor's gradients are averaged.
    torch.testing.assert_close(
        surgery.direction(
            "actor", rows, kept=torch.ones(2).bool(), losses=torch.ones(2), last=slice(0, 1)
        ),
        rows.mean(0),
    )


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("heads", ["shared", "per_task"])
def test_the_rows_of_the_jacobian_are_each_tasks_gradient_and_their_mean_the_joint_one(
    heads: str, copies: int
) -> None:
    one_hot = heads == "shared"
    network = TaskMlp(
        4,
        3,
        tasks=3,
        hidden=8,
        layers=3,
        one_hot=one_hot,
        per_task_heads=not one_hot,
        copies=copies,
    )
    network.initialise(torch.Generator().manual_seed(0))
    network = network.double()
    network.number_format = torch.float64
    inputs = torch.randn(15, 4, generator=torch.Generator().manual_seed(1)).double()

    def losses(outputs: Tensor) -> Tensor:
        return outputs.pow(3).sum((0, 2)).view(3, 5).mean(1)

    names = [name for name, _ in network.named_parameters()]
    parameters = list(network.parameters())
    shared, last = partition(network)
    alone = {"head_weight", "head_bias"} | ({"code"} if one_hot else set())
    assert {name for name, common in zip(names, shared, strict=True) if not common} == alone
    outputs = outputs_by_task(network, inputs)
    torch.testing.assert_close(outputs.outputs, network.grouped(inputs))
    cotangent = torch.autograd.grad(losses(outputs.outputs).mean(), outputs.outputs)[0]
    rows, own = task_gradients(
        [(piece,) for piece in outputs.pieces],
        [(share,) for share in cotangent.chunk(3, 1)],
        parameters,
        shared,
    )

    def flat(index: int | None) -> tuple[Tensor, list[Tensor]]:
        means = losses(network.grouped(inputs))
        loss = means.mean() if index is None else means[index]
        found = torch.autograd.grad(loss, parameters)
        common = [g.flatten() for g, c in zip(found, shared, strict=True) if c]
        return torch.cat(common), [g for g, c in zip(found, shared, strict=True) if not c]

    for index in range(3):
        torch.testing.assert_close(rows[index], flat(index)[0], rtol=3e-9, atol=3e-9)
    joint, joint_own = flat(None)
    torch.testing.assert_close(rows.mean(0), joint, rtol=3e-9, atol=3e-9)
    torch.testing.assert_close(own, joint_own, rtol=3e-9, atol=3e-9)
    final = network.weights[-1]
    assert last.stop - last.start == final.numel()
    gradient = torch.autograd.grad(losses(network.grouped(inputs)).mean(), final)[0]
    torch.testing.assert_close(rows.mean(0)[last], gradient.flatten(), rtol=3e-9, atol=3e-9)


@pytest.mark.parametrize("popart", [False, True])
def test_heads_of_unrolls_are_no_part_of_the_trunk_that_surgery_acts_on(popart: bool) -> None:
    config = NetworkConfig(
        torso="mlp", hidden=8, lstm=4, conditioning="embedding", popart=PopArtConfig(enabled=popart)
    )
    network = build_network(vector_tasks(4), config, 1)
    shared, last = partition(network)
    parameters = dict(network.named_parameters())
    trunk = [name for name, common in zip(parameters, shared, strict=True) if common]
    heads = ("policy.", "value.", "conditioning.embedding")
    assert trunk == [name for name in parameters if not name.startswith(heads)]
    assert len(trunk) < len(parameters) - 3
    (final,) = [
        name
        for position, name in enumerate(trunk)
        if sum(parameters[before].numel() for before in trunk[:position]) == last.start
        and parameters[name].numel() == last.stop - last.start
    ]
    assert parameters[final].dim() > 1
    assert not any(parameters[name].dim() > 1 for name in trunk[trunk.index(final) + 1 :])


@pytest.mark.parametrize("popart", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_unrolls_by_task_give_the_joint_gradient_of_the_v_trace_loss(
    popart: bool, reduction: Any
) -> None:
    config = NetworkConfig(
        torso="mlp", hidden=8, lstm=4, conditioning="embedding", popart=PopArtConfig(enabled=popart)
    )
    algorithm = VTraceConfig(loss_reduction=reduction)
    # Of the fourth task there is no unroll.
    tasks = vector_tasks(4)
    network = build_network(tasks, config, 1)
    batch = batch_of(tasks[:3], columns=7, recurrent=8)
    device = torch.device("cpu")
    tensors = to_device(batch, device, network.rebuild)

    def loss(part: Any, outputs: UnrollOutputs) -> Any:
        return vtrace_loss(network, part, outputs, algorithm, config.popart)

    parameters = list(network.parameters())
    joint = torch.autograd.grad(
        loss(tensors, outputs_of(network, tensors)).loss, parameters, allow_unused=True
    )
    # GradNorm's first weights are all 1.
    surgery = surgery_of("gradnorm", 4, metrics_every=1)
    by_task = UnrollGradients(
        network,
        parameters,
        surgery,
        evaluate=lambda part: outputs_of(network, part),
        loss=loss,
    )
    by_task(tensors, batch.task, 0)
    for parameter, expected in zip(parameters, joint, strict=True):
        assert parameter.grad is not None
        wanted = torch.zeros_like(parameter) if expected is None else expected
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-5)
    found = surgery.cosines[""]
    assert found[:3, :3].isfinite().all()
    assert found[3].isnan().all()


def test_cosines_are_those_of_the_vectors() -> None:
    rows = conflicting(3, 5)
    expected = np.array(
        [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in rows.numpy()] for a in rows.numpy()]
    )
    np.testing.assert_allclose(cosines(inner_products(rows)).numpy(), expected, rtol=1e-12)
    surgery = surgery_of("mean", 3, metrics_every=5)
    assert [surgery.measures(version) for version in range(6)] == [False] * 4 + [True, False]
    surgery.measure("critic", inner_products(rows))
    pairs = expected[np.triu_indices(3, 1)]
    metrics = surgery.metrics()
    assert metrics["learner/gradient_cosine_mean_critic"] == pytest.approx(pairs.mean())
    assert metrics["learner/gradient_cosine_min_critic"] == pytest.approx(pairs.min())
    assert surgery.metrics() == {}
    (sums,) = surgery.sums.read()
    assert sums.network == "critic"
    np.testing.assert_allclose(sums.mean(), expected, rtol=1e-12)
    assert surgery.sums.read() == []


def test_cosines_are_of_the_smallest_gradients_too_and_unknown_for_zeros() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 40, generator=generator)
    rows[1] *= 1e-25
    rows[3] = 0.0
    matrix = cosines(inner_products(rows[:, :9]) + inner_products(rows[:, 9:]))
    for i in range(3):
        for j in range(3):
            a, b = rows[i].double(), rows[j].double()
            expected = float(a @ b / (a.norm() * b.norm()))
            assert float(matrix[i, j]) == pytest.approx(expected, abs=1e-6)
    assert matrix[3].isnan().all()
    assert matrix[:, 3].isnan().all()
    assert not surgery_of("mean", 1, metrics_every=1).measures(0)


def test_surgery_needs_two_tasks_and_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"gradients\.method pcgrad joins .* has one: use mean"):
        surgery_of("pcgrad", 1)
    there = importlib.util.find_spec

    def find(absent: tuple[str, ...]) -> Any:
        return lambda name: None if name in absent else there(name)

    monkeypatch.setattr(importlib.util, "find_spec", find(("torchjd",)))
    with pytest.raises(BadInput, match=r"upgrad needs torchjd, which is not installed: .*surgery"):
        surgery_of("torchjd:upgrad", 2)
    monkeypatch.setattr(importlib.util, "find_spec", find(("cvxpy", "ecos")))
    sentence = r"nashmtl needs cvxpy and ecos, which are not installed: .*'\.\[nashmtl\]'"
    with pytest.raises(BadInput, match=sentence):
        surgery_of("torchjd:nashmtl", 2)
    assert surgery_of("pcgrad", 2).keeps_apart("actor")
