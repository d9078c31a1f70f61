"""Gradients of a loss, compiled where that pays, and what happens where compiling does not work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

logger = logging.getLogger(__name__)


@runtime_checkable
class HasLoss(Protocol):
    """What a loss function returns: the loss, and anything else."""

    @property
    def loss(self) -> Tensor:
        """The scalar to differentiate."""


Output = TypeVar("Output", bound=HasLoss)


def compiling_pays(setting: Literal["auto", "on", "off"]) -> bool:
    """Say whether to compile the update.

    `auto` goes by measurement (benchmarks/learner_update.py). What a compiler could save on a CPU
    (casts, stack rebuilding, fresh memory) is already saved here, and it leaves the convolutions,
    which are what remains, as they are: no network gains, and each first update takes half a
    minute longer. On CUDA it has not been measured. So `auto` compiles nothing for now.
    """
    return setting == "on"


class GradientFunction(Generic[Output]):
    """A loss function together with its gradients with respect to given parameters.

    Compiled, the first call takes tens of seconds (later processes find the result in torch's
    cache on disk), and so does the first call with any new shape. Where no C++ compiler works,
    one warning says so and the function runs as it is.
    """

    def __init__(
        self,
        function: Callable[..., Output],
        parameters: Sequence[nn.Parameter],
        *,
        compiled: bool,
    ) -> None:
        self._plain = function
        self._parameters = parameters
        self._function = function
        self._unproven = compiled
        if compiled:
            self._function = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *arguments: Any) -> Output:
        """Return the function's result and leave the gradients of its loss in the parameters."""
        if self._unproven:
            self._unproven = False
            try:
                return self._differentiate(*arguments)
            except (TorchDynamoException, RuntimeError, OSError) as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
                logger.warning("the update runs uncompiled, since compiling failed: %s", reason)
                self._function = self._plain
        return self._differentiate(*arguments)

    def _differentiate(self, *arguments: Any) -> Output:
        """Run forward and backward."""
        for parameter in self._parameters:
            parameter.grad = None
        output = self._function(*arguments)
        torch.autograd.backward(output.loss)
        return output
