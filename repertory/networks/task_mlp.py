"""Fully connected networks of many tasks: a trunk they share, told the task by a code or by heads.

Axes: C copies (two for twin critics), N rows, M tasks, R rows per task (N = M R where rows are
ordered by task), I inputs, H hidden, O outputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from repertory.networks.products import prefers_onednn, relu_layer


class TaskMlp(nn.Module):
    """C independent copies of a ReLU network, evaluated together as batched products.

    With `one_hot` the first layer also reads the task's one-hot code (Haarnoja-style MTSAC); a
    product with a one-hot vector is a row of the weights, so no code is ever built. With
    `per_task_heads` every task has its own linear output layer (MHSAC).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        tasks: int,
        hidden: int,
        layers: int,
        one_hot: bool,
        per_task_heads: bool,
        copies: int = 1,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.tasks, self.copies = inputs, outputs, tasks, copies
        self.number_format = torch.float32
        """What hidden layers compute in; first and last layer's results are float32."""
        widths = [inputs, *[hidden] * layers]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.full((copies, a, b), math.nan))
            for a, b in itertools.pairwise(widths)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(copies, 1, width)) for width in widths[1:]
        )
        self.code = nn.Parameter(torch.full((copies, tasks, hidden), math.nan)) if one_hot else None
        heads = tasks if per_task_heads else 1
        self.head_weight = nn.Parameter(torch.full((copies, heads, hidden, outputs), math.nan))
        self.head_bias = nn.Parameter(torch.zeros(copies, heads, 1, outputs))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights uniformly with Xavier's bounds (Glorot & Bengio 2010); zero biases."""
        with torch.no_grad():
            for position, weight in enumerate(self.weights):
                codes = self.tasks if position == 0 and self.code is not None else 0
                bound = math.sqrt(6.0 / (weight.shape[1] + codes + weight.shape[2]))
                weight.copy_(_uniform(weight.shape, bound, generator))
                if codes and self.code is not None:
                    self.code.copy_(_uniform(self.code.shape, bound, generator))
            bound = math.sqrt(6.0 / sum(self.head_weight.shape[2:]))
            self.head_weight.copy_(_uniform(self.head_weight.shape, bound, generator))

    def forward(
        self, inputs: Float[Tensor, "N I"], task: Int[Tensor, " N"]
    ) -> Float[Tensor, "C N O"]:
        """Return outputs of rows in any order; a task outside 0..M-1 has a code of zeros.

        Meant for few rows: heads are gathered row by row.
        """
        index = task.long().clamp(0, self.tasks - 1)
        code = None
        if self.code is not None:
            known = (index == task).unsqueeze(-1)
            code = self.code[:, index] * known
        hidden = self.trunk(inputs, code)
        if self.head_weight.shape[1] == 1:
            return torch.baddbmm(self.head_bias[:, 0], hidden, self.head_weight[:, 0])
        weight = self.head_weight[:, index]
        product = (hidden.unsqueeze(-2) @ weight).squeeze(-2)
        return product + self.head_bias[:, index, 0]

    def grouped(self, inputs: Float[Tensor, "N I"]) -> Float[Tensor, "C N O"]:
        """Return outputs of rows that are ordered by task, N/M of each: heads as one product."""
        return self.heads_of_groups(self.rest(self.first_of_groups(self.first(inputs))))

    def first_of_groups(self, products: Float[Tensor, "C N H"]) -> Float[Tensor, "C N H"]:
        """Return the first hidden layer of rows ordered by task, from its products with inputs."""
        if self.code is not None:
            by_task = products.view(self.copies, self.tasks, -1, products.shape[-1])
            products = (by_task + self.code.unsqueeze(2)).flatten(1, 2)
        return F.relu(products)

    def heads_of_groups(self, hidden: Float[Tensor, "C N H"]) -> Float[Tensor, "C N O"]:
        """Return outputs of rows ordered by task from their last hidden layer."""
        if self.head_weight.shape[1] == 1:
            return torch.baddbmm(self.head_bias[:, 0], hidden, self.head_weight[:, 0])
        by_task = hidden.view(self.copies * self.tasks, -1, hidden.shape[-1])
        outputs = torch.baddbmm(
            self.head_bias.flatten(0, 1), by_task, self.head_weight.flatten(0, 1)
        )
        return outputs.view(self.copies, -1, self.outputs)

    def of_counts(
        self, inputs: Float[Tensor, "N I"], task: Int[Tensor, " N"], counts: Sequence[int]
    ) -> Float[Tensor, "C N O"]:
        """Return outputs of rows that are ordered by task, counts[i] of task i (0 allowed)."""
        hidden = self.trunk(inputs, None if self.code is None else self.code[:, task])
        if self.head_weight.shape[1] == 1:
            return torch.baddbmm(self.head_bias[:, 0], hidden, self.head_weight[:, 0])
        # One product per task: heads gathered row by row cost half a trunk's time and more.
        parts = [
            torch.baddbmm(self.head_bias[:, index], part, self.head_weight[:, index])
            for index, part in enumerate(torch.split(hidden, list(counts), dim=1))
            if part.shape[1]
        ]
        return torch.cat(parts, 1)

    def every_task(self, inputs: Float[Tensor, "N I"]) -> Float[Tensor, "C N M O"]:
        """Return the outputs of every row in the context of every task.

        Where the trunk does not see the task it runs once for all of them; with a code, only the
        first layer's product is shared.
        """
        count = inputs.shape[0]
        if self.code is None:
            hidden = self.trunk(inputs, None)
            weight = self.head_weight.transpose(1, 2).flatten(2)
            bias = self.head_bias.transpose(1, 2).flatten(2)
            outputs = torch.baddbmm(bias, hidden, weight)
            outputs = outputs.view(self.copies, count, -1, self.outputs)
            return outputs.expand(-1, -1, self.tasks, -1)
        first = self.first(inputs)
        every = (first.unsqueeze(2) + self.code.unsqueeze(1)).flatten(1, 2)
        hidden = self.rest(F.relu(every))
        if self.head_weight.shape[1] == 1:
            outputs = torch.baddbmm(self.head_bias[:, 0], hidden, self.head_weight[:, 0])
            return outputs.view(self.copies, count, self.tasks, self.outputs)
        by_task = hidden.view(self.copies, count, self.tasks, -1).transpose(1, 2)
        outputs = by_task @ self.head_weight + self.head_bias
        return outputs.transpose(1, 2)

    def trunk(
        self,
        inputs: Float[Tensor, "N I"],
        code: Float[Tensor, "C R H"] | None,
        weights: Sequence[Tensor] | None = None,
    ) -> Float[Tensor, "C N H"]:
        """Return the last hidden layer; `code` is added to the first (R is N, or 1 for all rows).

        `weights` stand in for the network's own: a task's sub-network.
        """
        first = self.first(inputs, weights)
        if code is not None:
            first = first + code
        return self.rest(F.relu(first), weights)

    def first(
        self, inputs: Float[Tensor, "N I"], weights: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "C N H"]:
        """Return the first layer's products with inputs, biases added; `weights` as in `trunk`."""
        rows = inputs.expand(self.copies, -1, -1)
        first = self.weights[0] if weights is None else weights[0]
        return torch.baddbmm(self.biases[0], rows, first)

    def rest(
        self, hidden: Float[Tensor, "C N H"], weights: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "C N H"]:
        """Return the last hidden layer from the first; `weights` as in `trunk`."""
        result = hidden.dtype
        form = result if self.number_format == torch.float32 else self.number_format
        hidden = hidden.to(form)
        own = list(self.weights) if weights is None else list(weights)
        layers = [
            (weight.to(form), bias.to(form))
            for weight, bias in zip(own[1:], list(self.biases)[1:], strict=True)
        ]
        if prefers_onednn(hidden, hidden.shape[-1]):
            # unbind, not an index: its gradient is one stack, not a sum of padded copies.
            copies = list(hidden.unbind(0))
            for weight, bias in layers:
                parts = zip(copies, weight.unbind(0), bias.squeeze(1).unbind(0), strict=True)
                copies = [relu_layer(*part) for part in parts]
            hidden = torch.stack(copies)
        else:
            for weight, bias in layers:
                hidden = F.relu(torch.baddbmm(bias, hidden, weight))
        return hidden.to(result)


def _uniform(shape: torch.Size, bound: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (2.0 * bound) - bound
