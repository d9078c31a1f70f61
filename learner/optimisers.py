"""Optimisers by name, with RMSProp's epsilon where each of two libraries puts it.

P stands for the shape of a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from repertory.config import OptimiserConfig


class RMSpropTensorFlow(Optimizer):
    """RMSProp as the published IMPALA settings mean it: g / sqrt(ms + epsilon).

    PyTorch's divides by sqrt(ms) + epsilon: with epsilon 0.01 and small gradients a ten times
    larger step. The learning rate enters the momentum, as in TensorFlow; the mean square starts
    at zero (TensorFlow 1 starts it at one, a slow start of some hundred updates).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float,
        decay: float = 0.99,
        epsilon: float = 0.01,
        momentum: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "decay": decay, "epsilon": epsilon, "momentum": momentum}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients."""
        if closure is not None:
            raise ValueError("this optimiser takes no closure")
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["mean_square"] = torch.zeros_like(parameter)
                    if group["momentum"] > 0.0:
                        self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            mean_squares = [self.state[p]["mean_square"] for p in parameters]
            torch._foreach_mul_(mean_squares, group["decay"])
            torch._foreach_addcmul_(mean_squares, gradients, gradients, 1.0 - group["decay"])
            roots = torch._foreach_add(mean_squares, group["epsilon"])
            torch._foreach_sqrt_(roots)
            if group["momentum"] > 0.0:
                momenta = [self.state[p]["momentum"] for p in parameters]
                torch._foreach_mul_(momenta, group["momentum"])
                torch._foreach_addcdiv_(momenta, gradients, roots, group["lr"])
                torch._foreach_sub_(parameters, momenta)
            else:
                torch._foreach_addcdiv_(parameters, gradients, roots, -group["lr"])


def build_optimiser(parameters: Iterable[Tensor], config: OptimiserConfig) -> Optimizer:
    """Return the optimiser that `config` names."""
    match config.kind:
        case "rmsprop_tensorflow":
            return RMSpropTensorFlow(
                parameters,
                lr=config.learning_rate,
                decay=config.decay,
                epsilon=config.epsilon,
                momentum=config.momentum,
            )
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters,
                lr=config.learning_rate,
                alpha=config.decay,
                eps=config.epsilon,
                momentum=config.momentum,
                foreach=True,
            )
        case "adam":
            return torch.optim.Adam(
                parameters, lr=config.learning_rate, eps=config.epsilon, fused=True
            )


def learning_rate_at(config: OptimiserConfig, progress: float) -> float:
    """Return the learning rate after a share `progress` of the budget."""
    if config.anneal == "none":
        return config.learning_rate
    return config.learning_rate * (1.0 - min(max(progress, 0.0), 1.0))


def set_learning_rate(optimiser: Optimizer, learning_rate: float) -> None:
    """Make the next step use this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


def global_norm(gradients: list[Tensor]) -> Float[Tensor, ""]:
    """Return the Euclidean norm of all gradients as one vector."""
    norms: tuple[Tensor, ...] = torch._foreach_norm(gradients)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def clip_by_global_norm(gradients: list[Tensor], norm: Float[Tensor, ""], clip_norm: float) -> None:
    """Scale gradients in place so that their norm, given, does not exceed `clip_norm`."""
    torch._foreach_mul_(gradients, clip_norm / norm.clamp(min=clip_norm))


def optimiser_state(optimiser: Optimizer) -> dict[str, Any]:
    """Return what the optimiser remembers of each parameter, as arrays."""
    state: dict[str, Any] = {}
    for position, entries in optimiser.state_dict()["state"].items():
        state[str(position)] = {name: _array(entry) for name, entry in entries.items()}
    return state


def _array(entry: Tensor | float) -> Any:
    """Return a tensor as a new array; plain numbers as they are."""
    return entry.detach().cpu().contiguous().numpy().copy() if torch.is_tensor(entry) else entry


def restore_optimiser(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Take up `optimiser_state`; learning rates and other settings stay the optimiser's own."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    restored: dict[int, dict[str, Any]] = {}
    for position, entries in state.items():
        parameter = parameters[int(position)]
        restored[int(position)] = {
            name: _tensor_like(parameter, entry) for name, entry in entries.items()
        }
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": restored, "param_groups": groups})


def _tensor_like(parameter: Tensor, entry: Any) -> Any:
    """Return an array as a tensor, in the parameter's memory layout if it has its shape."""
    if not hasattr(entry, "shape"):
        return entry
    tensor = torch.tensor(entry)
    if tensor.shape != parameter.shape or not tensor.dim():
        return tensor
    return torch.empty_like(parameter).copy_(tensor)
