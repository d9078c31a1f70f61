"""Optimisers against numpy twins, clipping, annealing and saved moments."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from learner.optimisers import (
    build_optimiser,
    clip_by_global_norm,
    global_norm,
    learning_rate_at,
    optimiser_state,
    restore_optimiser,
    set_learning_rate,
)
from repertory.config import OptimiserConfig

Kind = Literal["rmsprop", "rmsprop_tensorflow", "adam"]


def numpy_steps(config: OptimiserConfig, start: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Take the steps that a configuration means, in float64."""
    x, square = start.astype(np.float64), np.zeros_like(start, dtype=np.float64)
    momentum, first = np.zeros_like(x), np.zeros_like(x)
    rate = config.learning_rate
    for count, gradient in enumerate(gradients.astype(np.float64), start=1):
        if config.kind == "adam":
            first = 0.9 * first + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            root = np.sqrt(square / (1 - 0.999**count)) + config.epsilon
            x = x - rate * first / (1 - 0.9**count) / root
            continue
        square = config.decay * square + (1 - config.decay) * gradient**2
        if config.kind == "rmsprop_tensorflow":
            momentum = config.momentum * momentum + rate * gradient / np.sqrt(
                square + config.epsilon
            )
            x = x - momentum
        else:
            momentum = config.momentum * momentum + gradient / (np.sqrt(square) + config.epsilon)
            x = x - rate * momentum
    return x


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["rmsprop", "rmsprop_tensorflow", "adam"])
def test_each_optimiser_equals_its_numpy_twin(kind: Kind, momentum: float) -> None:
    config = OptimiserConfig(kind=kind, learning_rate=0.03, epsilon=0.01, momentum=momentum)
    random = np.random.default_rng(0)
    start = random.normal(size=(4, 3)).astype(np.float32)
    gradients = random.normal(size=(20, 4, 3)).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = build_optimiser([parameter], config)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
    expected = numpy_steps(config, start, gradients)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_epsilon_inside_the_root_makes_smaller_steps_than_outside() -> None:
    moved = {}
    for kind in ("rmsprop", "rmsprop_tensorflow"):
        parameter = torch.nn.Parameter(torch.zeros(1))
        parameter.grad = torch.full((1,), 1e-3)
        build_optimiser([parameter], OptimiserConfig(kind=kind, learning_rate=1.0)).step()
        moved[kind] = -float(parameter.detach())
    assert moved["rmsprop"] == pytest.approx(1e-3 / (1e-4 + 0.01), rel=1e-4)
    assert moved["rmsprop_tensorflow"] == pytest.approx(1e-3 / np.sqrt(1e-8 + 0.01), rel=1e-4)


@pytest.mark.parametrize("kind", ["rmsprop", "rmsprop_tensorflow", "adam"])
def test_restored_moments_continue_to_the_bit(kind: Kind) -> None:
    config = OptimiserConfig(kind=kind, momentum=0.5)
    random = np.random.default_rng(1)
    gradients = torch.from_numpy(random.normal(size=(8, 6, 2, 3, 3)).astype(np.float32))
    start = torch.zeros(6, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    straight = torch.nn.Parameter(start.clone())
    optimiser = build_optimiser([straight], config)
    resumed, again = straight, optimiser
    for count, gradient in enumerate(gradients):
        if count == 4:
            resumed = torch.nn.Parameter(straight.detach().clone())
            again = build_optimiser([resumed], config)
            restore_optimiser(again, optimiser_state(optimiser))
        for parameter, one in {
            id(p): (p, o) for p, o in ((straight, optimiser), (resumed, again))
        }.values():
            parameter.grad = gradient.clone()
            one.step()
    assert resumed is not straight
    assert torch.equal(resumed, straight)


def test_clipping_scales_all_gradients_to_the_norm_and_leaves_small_ones_alone() -> None:
    gradients = [torch.full((2, 2), 3.0), torch.full((4,), 4.0)]
    norm = global_norm(gradients)
    assert float(norm) == pytest.approx(10.0)
    clip_by_global_norm(gradients, norm, 40.0)
    assert torch.equal(gradients[0], torch.full((2, 2), 3.0))
    clip_by_global_norm(gradients, norm, 5.0)
    assert float(global_norm(gradients)) == pytest.approx(5.0)
    torch.testing.assert_close(gradients[1], torch.full((4,), 2.0))


def test_the_learning_rate_falls_linearly_to_zero_and_no_further() -> None:
    config = OptimiserConfig(learning_rate=0.4)
    assert [learning_rate_at(config, p) for p in (0.0, 0.25, 1.0, 1.2)] == pytest.approx(
        [0.4, 0.3, 0.0, 0.0]
    )
    assert learning_rate_at(OptimiserConfig(learning_rate=0.4, anneal="none"), 0.9) == 0.4


def test_the_learning_rate_that_is_set_is_the_one_that_steps() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = build_optimiser([parameter], OptimiserConfig())
    set_learning_rate(optimiser, 0.0)
    parameter.grad = torch.ones(3)
    optimiser.step()
    assert torch.equal(parameter.detach(), torch.ones(3))
