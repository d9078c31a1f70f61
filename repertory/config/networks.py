"""Networks: torso, task conditioning, heads, value normalisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from repertory.config.base import NonNegative, Positive, PositiveFloat, Settings


class PopArtConfig(Settings):
    """Value normalisation per task with exact output preservation (Hessel et al. 2019)."""

    enabled: bool = False
    """One value output and one pair of statistics per task."""
    step_size: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-4
    """beta of the moving averages."""
    sigma_min: PositiveFloat = 1e-4
    sigma_max: PositiveFloat = 1e6


class NetworkConfig(Settings):
    """Policy and value network."""

    torso: Literal["shallow", "nature", "impala", "mlp"] = "shallow"
    """shallow: two convolutions; nature: three; impala: residual network; mlp: vectors."""
    width: Annotated[float, Field(gt=0.0)] = 1.0
    """Multiplies the channels of every convolution."""
    depth: Positive = 1
    """impala: multiplies the residual blocks per stage (2 at depth 1)."""
    hidden: Positive = 256
    """Units of the fully connected layer."""
    lstm: NonNegative = 0
    """Units of the LSTM; 0 for none."""
    conditioning: Literal["none", "one_hot", "embedding"] = "none"
    """Whether, and how, the network is told its task."""
    embedding_size: Positive = 32
    """Size of a learned task embedding."""
    layers: Positive = 2
    """mlp: hidden layers."""
    heads: Literal["shared", "per_task"] = "shared"
    """per_task: one linear output layer per task on a shared trunk (SAC, TD3)."""
    popart: PopArtConfig = PopArtConfig()
