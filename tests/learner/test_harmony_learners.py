"""Learners whose tasks see shared networks through masks of their own.

Axes: M tasks, P maskable weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mask_examples import cut
from off_policy import ADAM, box_tasks, off_policy_config, off_policy_learner, replayed
from slow_sac import SlowSac, arrays_of
from synthetic import batch_of, learner_of, run_config, vector_tasks
from test_sac_td3_learners import assert_same, windows_of
from test_sac_td3_learning import TARGETS, bandit_batch

from actors.control_policy import ControlPolicy
from actors.policy import NetworkPolicy
from learner.vtrace import outputs_of, vtrace_loss
from repertory.config import (
    GradientConfig,
    GuideConfig,
    MaskConfig,
    NetworkConfig,
    PopArtConfig,
    RunConfig,
    SacConfig,
    Td3Config,
)
from repertory.errors import BadInput
from repertory.masks import PackedMasks
from repertory.networks.acting import for_acting
from repertory.networks.actor_critic import build_network
from repertory.networks.control_agent import build_agent
from repertory.networks.flat import load_vector
from repertory.networks.masks import layout_of

HARMONY = GradientConfig(method="harmony")
OFTEN: dict[str, Any] = {
    "variant": "fisher",
    "alpha": 0.05,
    "schedule": "constant",
    "every": 3,
    "score_batches": 2,
    "warm_up": 0.0,
    "freeze": 0.0,
    "metrics_every": 2,
}


def under_masks(config: RunConfig, **settings: Any) -> RunConfig:
    """Return a run whose tasks have masks."""
    return config.model_copy(update={"gradients": HARMONY, "masks": MaskConfig(**settings)})


def named_masks(network: torch.nn.Module, masks: PackedMasks) -> list[dict[str, np.ndarray]]:
    """Return each task's mask by parameter, unpacked by hand."""
    tasks = []
    for task in range(masks.tasks):
        bits, named, start = masks.task(task), {}, 0
        for tensor in layout_of(network).tensors:
            named[tensor.name] = bits[start : start + tensor.size].reshape(tensor.shape)
            start += tensor.size
        tasks.append(named)
    return tasks


@pytest.mark.parametrize("heads", ["shared", "per_task"])
def test_whole_sac_updates_under_masks_are_those_of_a_row_by_row_twin(heads: str) -> None:
    algorithm = SacConfig(discount=0.9, target_step=0.2, temperature_cap=1.0)
    tasks = box_tasks(3, size=3, actions=2)
    config = off_policy_config(algorithm, heads=heads, hidden=7, optimiser=ADAM)
    learner = off_policy_learner(under_masks(config, sparsity=0.4, metrics_every=10), tasks)
    update = learner._update
    twin = SlowSac(
        update.agent.actor,
        update.critic,
        tasks=3,
        rate=ADAM.learning_rate,
        epsilon=ADAM.epsilon,
        clip=ADAM.clip_norm,
        discount=0.9,
        target_step=0.2,
        reward_scale=algorithm.reward_scale,
        target_entropy=-2.0,
        rescale=algorithm.rescale != "none",
        maskout=np.inf,
        terminal=False,
    )
    actor, critic = update.masks.packed(("actor", "critic"))
    assert not np.array_equal(actor.task(0), actor.task(1))
    twin.masks = {
        "actor": named_masks(update.agent.actor, actor),
        "critic": named_masks(update.critic, critic),
    }
    for seed in range(3):
        batch = replayed(tasks, each=4, seed=seed)
        copied = torch.Generator()
        copied.set_state(update.noise.get_state())
        noise = [torch.randn(12, 2, generator=copied).double().numpy() for _ in range(2)]
        learner.update(batch, 0.0)
        twin.update(batch, *noise)
        for network, slow in (
            (update.agent.actor, twin.actor),
            (update.critic, twin.critic),
            (update.target_critic, twin.target),
        ):
            for layer, weight in arrays_of(network).items():
                np.testing.assert_allclose(weight, slow[layer], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("popart", [False, True])
def test_the_one_backward_of_v_trace_is_the_loop_over_tasks(popart: bool) -> None:
    tasks = vector_tasks(3)
    network = NetworkConfig(
        torso="mlp", hidden=16, conditioning="one_hot", popart=PopArtConfig(enabled=popart)
    )
    config = under_masks(run_config(network), sparsity=0.4)
    learner = learner_of(config, tasks)
    update = learner._update
    batch = update.receive(batch_of(tasks, columns=6))
    learner._output(batch, batch.task.numpy())
    joint = {n: p.grad.clone() for n, p in update.network.named_parameters() if p.grad is not None}

    masks = update.masks.packed
    by_name = named_masks_of_columns(update.network, masks)
    total = {name: torch.zeros_like(gradient) for name, gradient in joint.items()}
    for task in range(3):
        alone = cut(update.network, masks, task)
        part = batch.columns((batch.task == task).nonzero().squeeze(1))
        outputs = outputs_of(alone, part)  # type: ignore[arg-type]
        loss = vtrace_loss(alone, part, outputs, config.algorithm, network.popart).loss  # type: ignore[arg-type]
        named = dict(alone.named_parameters())
        found = torch.autograd.grad(loss, [named[name] for name in joint], allow_unused=True)
        for name, gradient in zip(joint, found, strict=True):
            if gradient is not None:
                total[name] += gradient * by_name[task].get(name, 1.0)
    scale = 1.0 if config.algorithm.loss_reduction == "sum" else None
    for name, gradient in joint.items():
        ratio = 1.0
        if scale is None:
            ratio = float(gradient.norm() / total[name].norm())
        torch.testing.assert_close(gradient, ratio * total[name], rtol=1e-4, atol=1e-6)


def named_masks_of_columns(
    network: torch.nn.Module, masks: PackedMasks
) -> list[dict[str, torch.Tensor]]:
    """Return each task's mask by parameter, ones in columns that read the task's code."""
    result: list[dict[str, torch.Tensor]] = []
    for task in range(masks.tasks):
        ones = {n: torch.ones_like(p) for n, p in network.named_parameters()}
        start, bits = 0, torch.from_numpy(masks.task(task))
        for tensor in layout_of(network).tensors:
            part = bits[start : start + tensor.size].reshape(tensor.shape)
            ones[tensor.name][..., : tensor.shape[-1]] *= part
            start += tensor.size
        result.append(ones)
    return result


@pytest.mark.parametrize(
    ("kind", "heads"), [(SacConfig, "shared"), (SacConfig, "per_task"), (Td3Config, "shared")]
)
def test_at_sparsity_0_a_run_under_masks_is_one_without(kind: Any, heads: str) -> None:
    tasks = box_tasks(3)
    config = off_policy_config(kind(), heads=heads)
    plain = off_policy_learner(config, tasks)
    dense = off_policy_learner(under_masks(config, **{**OFTEN, "sparsity": 0.0}), tasks)
    for seed in range(4):
        for learner in (plain, dense):
            learner.update(replayed(tasks, seed=seed), 0.5)
    np.testing.assert_allclose(plain.weights().vector, dense.weights().vector, atol=2e-5)


def test_at_sparsity_0_v_trace_under_masks_is_v_trace_without() -> None:
    tasks = vector_tasks(3)
    config = run_config(NetworkConfig(torso="mlp", hidden=16, conditioning="one_hot"))
    plain = learner_of(config, tasks)
    dense = learner_of(under_masks(config, **{**OFTEN, "sparsity": 0.0}), tasks)
    for seed in range(4):
        for learner in (plain, dense):
            learner.update(batch_of(tasks, columns=6, seed=seed), 0.5)
    np.testing.assert_allclose(plain.weights().vector, dense.weights().vector, atol=2e-5)


def test_a_weight_that_no_task_owns_never_moves_and_others_do() -> None:
    tasks = box_tasks(2)
    learner = off_policy_learner(under_masks(off_policy_config(), sparsity=0.6), tasks)
    critic = learner._update.critic
    masks = named_masks(critic, learner._update.masks.packed(("critic",))[0])
    before = arrays_of(critic)
    for seed in range(3):
        learner.update(replayed(tasks, seed=seed), 0.5)
    after = arrays_of(critic)
    for name in masks[0]:
        owned = masks[0][name] | masks[1][name]
        moved = after[name] != before[name]
        assert not moved[:, ~owned].any()
        assert moved[:, owned].mean() > 0.5
    assert (after["code"] != before["code"]).mean() > 0.5
    assert (after["head_weight"] != before["head_weight"]).mean() > 0.5


@pytest.mark.parametrize("variant", ["agreement", "fisher", "magnitude"])
@pytest.mark.parametrize("algorithm", ["sac", "td3", "vtrace"])
def test_masks_change_by_schedule_and_keep_their_sizes(algorithm: str, variant: str) -> None:
    learner, update = small_learner(algorithm, **{**OFTEN, "variant": variant})
    first = learner.weights().masks
    versions = []
    for seed in range(7):
        update(learner, seed)
        versions.append([one.version for one in learner.weights().masks])
    assert [v[0] for v in versions] == [0, 0, 1, 1, 1, 2, 2]
    for before, after in zip(first, learner.weights().masks, strict=True):
        assert not np.array_equal(before.bits, after.bits)
        np.testing.assert_array_equal(before.unpack().sum(1), after.unpack().sum(1))
    metrics = learner.metrics()
    ending = "" if algorithm == "vtrace" else "_actor"
    assert metrics[f"learner/mask_flips{ending}"] > 0
    assert -1.0 <= metrics[f"learner/harmony{ending}"] <= 1.0
    assert 0.0 < metrics[f"learner/harmony_null{ending}"] < 1.0
    assert f"learner/gradient_cosine_mean{ending}" in metrics
    prefix = f"learner/mask_density{ending}/"
    shares = [share for name, share in metrics.items() if name.startswith(prefix)]
    assert len(shares) > 1
    assert all(0.5 < share <= 1.0 for share in shares)
    assert min(shares) < 0.9


@pytest.mark.parametrize(
    ("settings", "progress"),
    [({"variant": "random"}, 0.5), ({"alpha": 0.0}, 0.5), ({"warm_up": 0.2}, 0.1)],
)
def test_masks_rest_where_they_should(settings: dict[str, Any], progress: float) -> None:
    learner, update = small_learner("sac", **{**OFTEN, **settings})
    before = learner.weights().masks
    for seed in range(4):
        update(learner, seed, progress)
    for one, other in zip(before, learner.weights().masks, strict=True):
        assert other.version == 0
        np.testing.assert_array_equal(one.bits, other.bits)


def test_a_gradient_that_is_not_finite_leaves_masks_as_they_are() -> None:
    learner, update = small_learner("sac", **OFTEN)
    before = learner.weights().masks
    update(learner, 0)
    learner._update.critic.head_bias.data.fill_(float("inf"))
    for seed in (1, 2):
        update(learner, seed)
    after = learner.weights().masks
    np.testing.assert_array_equal(before[0].bits, after[0].bits)


@pytest.mark.parametrize("algorithm", ["sac", "td3", "vtrace", "ctpg"])
def test_a_restored_learner_under_masks_goes_on_to_the_bit(algorithm: str) -> None:
    learner, update = small_learner(algorithm, **OFTEN)
    other, _ = small_learner(algorithm, seed=9, **OFTEN)
    for seed in range(5):  # In the middle of scoring: the next update changes masks.
        update(learner, seed)
    assert learner.weights().masks[0].version == 1
    other.restore(learner.state())
    for seed in range(5, 8):
        update(learner, seed)
        update(other, seed)
    assert learner.weights().masks[0].version == 2
    assert_same(learner.state(), other.state())
    np.testing.assert_array_equal(learner.weights().vector, other.weights().vector)


def test_a_change_of_the_critics_masks_alone_is_a_version_of_its_own() -> None:
    # The actor learns in every second update, so that no batch of the first three judges it.
    guide = GuideConfig(kind="ctpg", step=4, block="none")
    algorithm = Td3Config(policy_delay=2, guide=guide)
    settings = {**OFTEN, "score_batches": 1}
    tasks = box_tasks(3)
    learner = off_policy_learner(under_masks(off_policy_config(algorithm), **settings), tasks)
    published = []
    for seed in range(6):
        learner.update(replayed(tasks, seed=seed, windows=windows_of(3, seed)), 0.5)
        published.append(learner.weights())
    versions = [[one.version for one in weights.masks] for weights in published]
    assert versions == [[0, 0], [0, 0], [0, 1], [0, 1], [0, 1], [1, 2]]
    assert [weights.mask_version for weights in published] == [0, 0, 1, 1, 1, 3]


def test_masks_that_come_out_as_they_were_keep_their_version() -> None:
    learner, update = small_learner("sac", **OFTEN)
    keeper = learner._update.masks._keepers["critic"]
    before = keeper.packed
    keeper.accept(torch.from_numpy(before.unpack()))
    assert keeper.packed is before
    for seed in range(3):
        update(learner, seed)
    assert keeper.packed.version == 1


def test_masks_of_another_network_or_method_are_refused() -> None:
    learner, _ = small_learner("sac", **OFTEN)
    plain = off_policy_learner(off_policy_config(), box_tasks(3))
    with pytest.raises(BadInput, match=r"gradients\.method is mean, this run's is harmony"):
        learner.restore(plain.state())
    keeper = learner._update.masks._keepers["actor"]
    state = keeper.state()
    state["masks"]["weights"] -= 1
    with pytest.raises(BadInput, match="the checkpoint's masks are of 3 tasks"):
        keeper.restore(state)


def small_learner(algorithm: str, *, seed: int = 1, **settings: Any) -> tuple[Any, Any]:
    """Return a learner of three tasks, and how it learns from a batch of a seed."""
    if algorithm == "vtrace":
        tasks = vector_tasks(3)
        network = NetworkConfig(torso="mlp", hidden=16, conditioning="one_hot")
        config = under_masks(run_config(network), **settings)

        def learn(learner: Any, batch: int, progress: float = 0.5) -> None:
            learner.update(batch_of(tasks, columns=6, seed=batch), progress)

        return learner_of(config, tasks, seed), learn
    tasks = box_tasks(3)
    guide = GuideConfig(kind="ctpg", step=4, block="none") if algorithm == "ctpg" else GuideConfig()
    made = Td3Config(policy_delay=1) if algorithm == "td3" else SacConfig(guide=guide)
    config = under_masks(off_policy_config(made), **settings)

    def learn_replayed(learner: Any, batch: int, progress: float = 0.5) -> None:
        windows = windows_of(3, batch) if algorithm == "ctpg" else None
        learner.update(replayed(tasks, seed=batch, windows=windows), progress)

    return off_policy_learner(config, tasks, seed), learn_replayed


@pytest.mark.parametrize("kind", [SacConfig, Td3Config])
def test_two_tasks_with_different_best_actions_are_learned_under_masks(kind: Any) -> None:
    tasks = box_tasks(2, size=1, actions=1)
    algorithm = SacConfig(temperature=0.05) if kind is SacConfig else Td3Config()
    fast = ADAM.model_copy(update={"learning_rate": 3e-3})
    config = off_policy_config(algorithm, hidden=32, optimiser=fast)
    settings = {**OFTEN, "every": 50, "metrics_every": 1000}
    learner = off_policy_learner(under_masks(config, **settings), tasks)
    random = np.random.default_rng(0)

    def error() -> float:
        agent = learner._update.agent
        agent.wear(learner._update.masks.ready("actor"))
        with torch.no_grad():
            outputs = agent.policies.forward(torch.ones(2, 1), torch.arange(2))
        return float(np.abs(np.tanh(outputs[0, :, 0].numpy()) - TARGETS).max())

    assert error() > 0.2
    for _ in range(9):
        for _ in range(50):
            learner.update(bandit_batch(random), 0.5)
        if error() < 0.12:
            break
    assert error() < 0.12


def test_a_worker_acts_with_the_probabilities_of_the_learners_masked_network() -> None:
    learner, update = small_learner("vtrace", **OFTEN)
    config, tasks = learner._update._config, vector_tasks(3)
    acting = for_acting(build_network(tasks, config.network, 5))
    policy = NetworkPolicy(acting, np.random.default_rng(0), masks=config.masks)
    seen = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    task = np.array([2, 0, 1, 2, 7], np.int32)
    nothing, started = np.zeros((5, 0), np.float32), np.ones(5, bool)
    dense = []
    for seed in range(4):
        update(learner, seed)
        weights = learner.weights()
        policy.load(weights)
        decision = policy.act(seen, task, nothing, started)
        for lane in range(4):
            alone = cut(learner._update.network, weights.masks[0], int(task[lane]))
            rows = [torch.from_numpy(a[lane : lane + 1]) for a in (seen, task, nothing, started)]
            with torch.no_grad():
                expected = torch.log_softmax(alone.act(*rows)[0], -1)  # type: ignore[operator]
                whole = torch.log_softmax(learner._update.network.act(*rows)[0], -1)
            action = int(decision.action[lane])
            assert decision.log_probability[lane] == pytest.approx(
                float(expected[0, action]), abs=1e-5
            )
            dense.append(abs(float(whole[0, action] - expected[0, action])))
    assert learner.weights().masks[0].version == 1
    assert max(dense) > 1e-3


@pytest.mark.parametrize("algorithm", ["sac", "ctpg"])
def test_a_control_worker_acts_with_the_learners_masked_policy(algorithm: str) -> None:
    learner, update = small_learner(algorithm, **OFTEN)
    config, tasks = learner._update._config, box_tasks(3)
    policy = ControlPolicy(
        build_agent(tasks, config, 5), config, np.random.default_rng(0), greedy=True
    )
    seen = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    task = np.array([2, 0, 1, 2], np.int32)
    nothing, started = np.zeros((4, 0), np.float32), np.ones(4, bool)
    for seed in range(4):
        update(learner, seed)
        weights = learner.weights()
        policy.load(weights)
        action = policy.act(seen, task, nothing, started).action
        as_other = policy.act_as(seen, task[::-1].copy())[0]
        for lane in range(4):
            for chosen, found in ((task[lane], action), (task[::-1][lane], as_other)):
                alone = cut(learner._update.agent.actor, weights.masks[0], int(chosen))
                with torch.no_grad():
                    row = torch.from_numpy(seen[lane : lane + 1])
                    outputs = alone(row, torch.tensor([int(chosen)]))[0]
                np.testing.assert_allclose(
                    found[lane], np.tanh(outputs[0, :2].numpy()), rtol=1e-4, atol=1e-5
                )
    assert len(weights.masks) == (2 if algorithm == "ctpg" else 1)
    agent = build_agent(tasks, config, 6)
    load_vector(agent, weights.vector)
    with torch.no_grad():
        dense = agent.actor(torch.from_numpy(seen), torch.from_numpy(task))[0]
    assert np.abs(np.tanh(dense[:, :2].numpy()) - action).max() > 1e-3


def test_the_guide_reads_windows_by_masked_policies_and_judges_by_masked_critics() -> None:
    learner, update = small_learner("ctpg", **OFTEN)
    shared = learner._update
    learn = shared.guide.update
    random = np.random.default_rng(4)
    seen = torch.from_numpy(random.normal(size=(6, 5)).astype(np.float32))
    judged = torch.from_numpy(random.normal(size=(6, 7)).astype(np.float32))
    task = torch.tensor([0, 1, 2, 0, 1, 2], dtype=torch.int32)
    compared = []

    def watched(windows: Any, *, critic: Any, **rest: Any) -> None:
        actor_masks, critic_masks = shared.masks.packed(("actor", "critic"))
        with torch.no_grad():
            every = shared.agent.every_candidate(seen)
            values = critic.forward(judged, task)
            for row, index in enumerate(task.tolist()):
                one = task[row : row + 1]
                own = cut(shared.agent.actor, actor_masks, index)(seen[row : row + 1], one)
                torch.testing.assert_close(every[row, index], own[0, 0], rtol=1e-4, atol=1e-5)
                value = cut(shared.critic, critic_masks, index)(judged[row : row + 1], one)
                torch.testing.assert_close(values[:, row], value[:, 0], rtol=1e-4, atol=1e-5)
            dense = shared.agent.actor.every_task(seen)[0]
        compared.append(float((every - dense).abs().max()))
        learn(windows, critic=critic, **rest)

    shared.guide.update = watched
    for seed in range(4):
        update(learner, seed)
    assert len(compared) == 4
    assert min(compared) > 1e-3


def test_an_unseen_task_acts_with_the_weights_that_the_others_vote_for() -> None:
    learner, update = small_learner("sac", **{**OFTEN, "unseen_votes": 1.5})
    config, tasks = learner._update._config, box_tasks(3)
    update(learner, 0)
    weights = learner.weights()
    policy = ControlPolicy(
        build_agent(tasks, config, 5), config, np.random.default_rng(0), greedy=True
    )
    policy.load(weights)
    seen = np.ones((1, 5), np.float32)
    action = policy.act(seen, np.array([3], np.int32), np.zeros((1, 0)), np.ones(1, bool)).action
    (masks,) = weights.masks
    votes = masks.unpack().sum(0) >= 2
    assert not votes.all()
    voted = PackedMasks(0, np.packbits(votes[None], axis=1), masks.weights)
    alone = cut(learner._update.agent.actor, voted, 0)
    with torch.no_grad():
        outputs = alone(torch.from_numpy(seen), torch.tensor([3]))[0]
    np.testing.assert_allclose(action[0], np.tanh(outputs[0, :2].numpy()), rtol=1e-4, atol=1e-5)
