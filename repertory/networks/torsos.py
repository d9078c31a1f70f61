"""From one network input to hidden units: three convolutional torsos and one for vectors.

Axes: N rows, K stacked observations, Y and X pixels, D vector entries, F features.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from repertory.config import NetworkConfig
from repertory.errors import BadInput
from repertory.networks.layers import KEEPS_VARIANCE, Convolution, Dense
from repertory.types import ObservationSpec

PIXEL_SCALE = 1.0 / 255.0


def _channels(published: int, width: float) -> int:
    """Return the channels of a layer at this width, at least one."""
    return max(1, round(published * width))


def _flatten(images: Tensor) -> Tensor:
    """Flatten to rows in the order y, x, channel, which costs nothing in channels-last memory."""
    return images.permute(0, 2, 3, 1).flatten(1)


class PlainTorso(nn.Module):
    """A chain of convolutions, each with a ReLU, and one dense layer."""

    def __init__(
        self, layers: tuple[tuple[int, int, int], ...], spec: ObservationSpec, config: NetworkConfig
    ) -> None:
        super().__init__()
        channels, side = spec.stack, spec.shape[0]
        convolutions = []
        for position, (outputs, kernel, stride) in enumerate(layers):
            scale = PIXEL_SCALE if position == 0 else 1.0
            outputs = _channels(outputs, config.width)
            layer = Convolution(
                channels,
                outputs,
                kernel=kernel,
                stride=stride,
                input_scale=scale,
                weight_scale=KEEPS_VARIANCE,
            )
            convolutions.append(layer)
            channels, side = outputs, layer.output_side(side)
        self.convolutions = nn.ModuleList(convolutions)
        self.hidden = Dense(channels * side * side, config.hidden, weight_scale=KEEPS_VARIANCE)

    def forward(self, images: Float[Tensor, "N K Y X"]) -> Float[Tensor, "N F"]:
        """Return `hidden` features of stacked frames with values 0..255."""
        for layer in self.convolutions:
            images = F.relu(layer(images))
        return F.relu(self.hidden(_flatten(images)))


class ResidualBlock(nn.Module):
    """x + convolution(ReLU(convolution(ReLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels, kernel=3, padding=1)
        self.second = Convolution(channels, channels, kernel=3, padding=1)

    def forward(self, images: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N C Y X"]:
        """Return an array of the input's shape."""
        change: Tensor = self.second(F.relu(self.first(F.relu(images))))
        return images + change


class ResidualStage(nn.Module):
    """A convolution, a max-pooling that halves the sides, and residual blocks."""

    def __init__(self, inputs: int, outputs: int, *, blocks: int, input_scale: float) -> None:
        super().__init__()
        self.entry = Convolution(inputs, outputs, kernel=3, padding=1, input_scale=input_scale)
        self.blocks = nn.ModuleList(ResidualBlock(outputs) for _ in range(blocks))

    def forward(self, images: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N E V U"]:
        """Return images of half the side, rounded up."""
        images = F.max_pool2d(self.entry(images), kernel_size=3, stride=2, padding=1)
        for block in self.blocks:
            images = block(images)
        return images


class ResidualTorso(nn.Module):
    """The deep network of Espeholt et al. 2018 (figure 3, right): three stages and a dense layer.

    `width` multiplies the 16, 32, 32 channels and `depth` the two blocks of each stage.
    """

    def __init__(self, spec: ObservationSpec, config: NetworkConfig) -> None:
        super().__init__()
        channels, side = spec.stack, spec.shape[0]
        stages = []
        for position, outputs in enumerate((16, 32, 32)):
            scale = PIXEL_SCALE if position == 0 else 1.0
            outputs = _channels(outputs, config.width)
            blocks = 2 * config.depth
            stages.append(ResidualStage(channels, outputs, blocks=blocks, input_scale=scale))
            channels, side = outputs, (side + 1) // 2
        self.stages = nn.ModuleList(stages)
        self.hidden = Dense(channels * side * side, config.hidden)

    def forward(self, images: Float[Tensor, "N K Y X"]) -> Float[Tensor, "N F"]:
        """Return `hidden` features of stacked frames with values 0..255."""
        for stage in self.stages:
            images = stage(images)
        return F.relu(self.hidden(_flatten(F.relu(images))))


class VectorTorso(nn.Module):
    """Two dense layers with ReLUs, for vector observations."""

    def __init__(self, spec: ObservationSpec, config: NetworkConfig) -> None:
        super().__init__()
        self.first = Dense(spec.shape[0] * spec.stack, config.hidden)
        self.second = Dense(config.hidden, config.hidden)

    def forward(self, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N F"]:
        """Return `hidden` features."""
        return F.relu(self.second(F.relu(self.first(vectors))))


SHALLOW = ((16, 8, 4), (32, 4, 2))
"""Channels, kernel and stride of each convolution (Mnih et al. 2013)."""
NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Mnih et al. 2015, where `hidden` is 512."""


def build_torso(spec: ObservationSpec, config: NetworkConfig) -> nn.Module:
    """Return the torso that `config` names, or say why it cannot see these observations."""
    if config.torso == "mlp":
        if len(spec.shape) != 1:
            raise BadInput(
                f"network.torso mlp reads vectors, but observations have shape {spec.shape}; "
                "use shallow, nature or impala"
            )
        return VectorTorso(spec, config)
    if len(spec.shape) != 2 or spec.shape[0] != spec.shape[1] or spec.dtype != "uint8":
        raise BadInput(
            f"network.torso {config.torso} reads square uint8 frames, but observations are "
            f"{spec.dtype} of shape {spec.shape}; use mlp for vectors"
        )
    if spec.shape[0] < 36:
        raise BadInput(f"network.torso {config.torso} needs frames of side 36 or more")
    match config.torso:
        case "shallow":
            return PlainTorso(SHALLOW, spec, config)
        case "nature":
            return PlainTorso(NATURE, spec, config)
        case "impala":
            return ResidualTorso(spec, config)
