"""Build the simulated body and world of a HalfCheetah variant.

Sizes and masses change before the model is compiled: a compiled model's `geom_size` only moves
contacts, while masses, inertias and bounding radii stay those of the old body.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import mujoco

from envs.half_cheetah.catalog import Variant
from repertory.errors import EnvironmentFailure

BodyScaling = Literal["geometry", "literal"]


def source() -> Path:
    """Return the path of Gymnasium's half_cheetah.xml (HalfCheetah-v5)."""
    # Found without importing gymnasium: its mujoco package loads renderers.
    package = find_spec("gymnasium")
    if package is None or package.origin is None:
        raise EnvironmentFailure("HalfCheetah needs the package gymnasium, which is not installed.")
    return Path(package.origin).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml"


def build(variant: Variant, scaling: BodyScaling) -> mujoco.MjModel:
    """Compile the model of a variant.

    Args:
        variant: what to change.
        scaling: `geometry` multiplies every number of a body part's size and lets the compiler
            bring the whole body back to 14 kg, as gym-extensions does (Henderson et al. 2017);
            `literal` multiplies radius and mass and leaves the rest of the body as it is, as the
            text of He et al. 2024 has it.

    Raises:
        EnvironmentFailure: gymnasium or its file is missing.
    """
    path = source()
    if not path.is_file():
        raise EnvironmentFailure(f"HalfCheetah's body, {path}, is missing; reinstall gymnasium.")
    spec = mujoco.MjSpec.from_file(str(path))
    spec.option.gravity = [0.0, 0.0, -variant.gravity]
    if variant.geoms and scaling == "literal":
        _fix_masses(spec)
        spec.compiler.settotalmass = -1.0
    for name in variant.geoms:
        geom = spec.geom(name)
        if scaling == "geometry":
            geom.size = geom.size * variant.scale
        else:
            geom.size = [geom.size[0] * variant.scale, *geom.size[1:]]
            geom.mass = geom.mass * variant.scale
    return spec.compile()


def _fix_masses(spec: mujoco.MjSpec) -> None:
    """Give each body part the mass it has in the unchanged body: its share of 14 kg by volume."""
    model = spec.compile()
    volume = {}
    for index in range(model.ngeom):
        if model.geom_bodyid[index] != 0:
            radius, half_length = model.geom_size[index, :2]
            volume[model.geom(index).name] = (
                math.pi * radius**2 * (2.0 * half_length + 4.0 / 3.0 * radius)
            )
    total = sum(volume.values())
    for name, share in volume.items():
        spec.geom(name).mass = spec.compiler.settotalmass * share / total
