"""Networks of many tasks against a loop over copies and rows with the code concatenated."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from repertory.networks.task_mlp import TaskMlp

KINDS = list(itertools.product((False, True), (False, True)))


def network_of(
    *, one_hot: bool, per_task_heads: bool, copies: int = 2, hidden: int = 6, layers: int = 3
) -> TaskMlp:
    """Return a network of 3 tasks with biases drawn too, so that each of them counts."""
    network = TaskMlp(
        4,
        2,
        tasks=3,
        hidden=hidden,
        layers=layers,
        one_hot=one_hot,
        per_task_heads=per_task_heads,
        copies=copies,
    )
    generator = torch.Generator().manual_seed(5)
    network.initialise(generator)
    with torch.no_grad():
        for bias in (*network.biases, network.head_bias):
            bias.copy_(torch.randn(bias.shape, generator=generator))
    return network


def slow(network: TaskMlp, copy: int, row: Tensor, task: int) -> Tensor:
    """Return one copy's outputs for one row."""
    value = row
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        matrix = weight[copy]
        if layer == 0 and network.code is not None:
            code = torch.zeros(network.tasks)
            if 0 <= task < network.tasks:
                code[task] = 1.0
            value = torch.cat([value, code])
            matrix = torch.cat([matrix, network.code[copy]])
        value = (value @ matrix + bias[copy, 0]).clamp(min=0.0)
    head = task if network.head_weight.shape[1] > 1 else 0
    return value @ network.head_weight[copy, head] + network.head_bias[copy, head, 0]


def rows_of(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("one_hot", "heads"), KINDS)
def test_forward_is_a_loop_over_copies_and_rows(one_hot: bool, heads: bool) -> None:
    network = network_of(one_hot=one_hot, per_task_heads=heads)
    rows, task = rows_of(7), torch.tensor([2, 0, 1, 1, 2, 0, 2])
    expected = torch.stack(
        [
            torch.stack([slow(network, c, r, int(t)) for r, t in zip(rows, task, strict=True)])
            for c in (0, 1)
        ]
    )
    torch.testing.assert_close(network(rows, task), expected)


# 30 rows take torch's products, 90 may take the other library's.
@pytest.mark.parametrize("each", [10, 30])
@pytest.mark.parametrize(("one_hot", "heads"), KINDS)
def test_grouped_rows_and_every_task_agree_with_forward(
    one_hot: bool, heads: bool, each: int
) -> None:
    network = network_of(one_hot=one_hot, per_task_heads=heads)
    rows, task = rows_of(3 * each), torch.arange(3).repeat_interleave(each)
    expected = torch.cat(
        [network(one[None], t[None]) for one, t in zip(rows, task, strict=True)], 1
    )
    torch.testing.assert_close(network.grouped(rows), expected)
    every = network.every_task(rows)
    assert every.shape == (2, 3 * each, 3, 2)
    for index in range(3):
        torch.testing.assert_close(every[:, :, index], network(rows, torch.full_like(task, index)))


@pytest.mark.parametrize("each", [10, 30])
@pytest.mark.parametrize(("one_hot", "heads"), KINDS)
def test_gradients_are_those_of_the_loop(one_hot: bool, heads: bool, each: int) -> None:
    network = network_of(one_hot=one_hot, per_task_heads=heads)
    rows = rows_of(3 * each).requires_grad_()
    pull = torch.randn(2, 3 * each, 2, generator=torch.Generator().manual_seed(1))
    wanted = [rows, *network.parameters()]
    ours = torch.autograd.grad((network.grouped(rows) * pull).sum(), wanted)
    loss = sum(
        (slow(network, c, rows[n], n // each) * pull[c, n]).sum()
        for c in (0, 1)
        for n in range(3 * each)
    )
    assert isinstance(loss, Tensor)
    for own, expected in zip(ours, torch.autograd.grad(loss, wanted), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_task_has_a_code_of_zeros() -> None:
    network = network_of(one_hot=True, per_task_heads=False)
    rows = rows_of(2)
    outputs = network(rows, torch.tensor([-1, 3]))
    for n, task in enumerate((-1, 3)):
        torch.testing.assert_close(outputs[0, n], slow(network, 0, rows[n], task))


def test_copies_are_independent() -> None:
    network = network_of(one_hot=True, per_task_heads=True)
    rows = rows_of(90)
    before = network.grouped(rows).detach()
    assert not torch.allclose(before[0], before[1])
    gradients = torch.autograd.grad(network.grouped(rows)[0].sum(), list(network.parameters()))
    assert all(gradient[0].any() and not gradient[1].any() for gradient in gradients)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter[1] += 1.0
    after = network.grouped(rows)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_parameters_of_the_papers_networks_are_as_many_as_published() -> None:
    def count(inputs: int, outputs: int, copies: int) -> int:
        network = TaskMlp(
            inputs,
            outputs,
            tasks=10,
            hidden=400,
            layers=5,
            one_hot=True,
            per_task_heads=False,
            copies=copies,
        )
        return sum(parameter.numel() for parameter in network.parameters())

    assert count(39, 8, 1) == 664_808
    assert count(43, 1, 2) == 2 * 663_601


def test_initial_weights_fill_xavier_bounds_of_the_concatenated_input_and_biases_are_zero() -> None:
    network = TaskMlp(
        4, 2, tasks=3, hidden=200, layers=2, one_hot=True, per_task_heads=True, copies=2
    )
    network.initialise(torch.Generator().manual_seed(0))
    assert network.code is not None
    for weight, inputs in ((network.weights[0], 7), (network.code, 7), (network.weights[1], 200)):
        bound = (6.0 / (inputs + 200)) ** 0.5
        assert 0.95 * bound < weight.abs().max().item() <= bound
    assert network.head_weight.abs().max().item() <= (6.0 / 202) ** 0.5
    assert not any(bias.any() for bias in (*network.biases, network.head_bias))


def test_hidden_layers_in_bf16_stay_near_float32_and_results_are_float32() -> None:
    network = network_of(one_hot=True, per_task_heads=True, hidden=64)
    rows = rows_of(90)
    exact = network.grouped(rows)
    network.number_format = torch.bfloat16
    rounded = network.grouped(rows)
    assert rounded.dtype == torch.float32
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-6 < error.item() < 0.02
    gradients = torch.autograd.grad(rounded.sum(), list(network.parameters()))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
