"""A long short-term memory that starts afresh where an episode does.

Axes: T1 = T + 1 steps, B columns, I inputs, U units, R = 2 U (hidden units, then cells).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from repertory.networks.layers import Dense


class Lstm(nn.Module):
    """Hochreiter and Schmidhuber 1997, with a forget gate that starts open (bias 1).

    Products run in the format of the inputs; gates, cells and outputs are float32.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.from_input = Dense(inputs, 4 * units)
        self.from_hidden = Dense(units, 4 * units, bias=False)

    def unroll(
        self,
        inputs: Float[Tensor, "T1 B I"],
        started: Bool[Tensor, "T1 B"],
        recurrent: Float[Tensor, "B R"],
    ) -> tuple[Float[Tensor, "T1 B U"], Float[Tensor, "B R"]]:
        """Return the outputs of every step and the state after the last."""
        hidden, cell = torch.split(recurrent.float(), self.units, dim=-1)
        gates = self.from_input(inputs).float()
        kept = (~started).unsqueeze(-1).to(torch.float32)
        outputs = []
        for step in range(inputs.shape[0]):
            hidden, cell = hidden * kept[step], cell * kept[step]
            joined = gates[step] + self.from_hidden(hidden.to(inputs.dtype)).float()
            enter, forget, candidate, leave = torch.split(joined, self.units, dim=-1)
            cell = torch.sigmoid(forget + 1.0) * cell
            cell = cell + torch.sigmoid(enter) * torch.tanh(candidate)
            hidden = torch.sigmoid(leave) * torch.tanh(cell)
            outputs.append(hidden)
        return torch.stack(outputs), torch.cat([hidden, cell], -1)
