"""The variants of HalfCheetah by name, and the groups that they form; loads no simulator."""

from __future__ import annotations

from typing import NamedTuple

from repertory.errors import BadInput, did_you_mean
from repertory.types import ActionSpec, ObservationSpec

OBSERVATION = ObservationSpec((17,), "float32", 1)
ACTION = ActionSpec("box", 6)


class Variant(NamedTuple):
    """What is changed in the body or its world."""

    gravity: float = 9.81
    """m/s^2, downwards. Written out, since 1.25 * 9.81 is not 12.2625 to the last bit."""
    geoms: tuple[str, ...] = ()
    """Body parts that are scaled, by their names in half_cheetah.xml."""
    scale: float = 1.0
    """Factor of their size."""


_TORSO, _THIGH = ("torso",), ("fthigh", "bthigh")
_LEG, _FOOT = ("fshin", "bshin"), ("ffoot", "bfoot")

VARIANTS: dict[str, Variant] = {
    "gravity-normal": Variant(gravity=9.81),
    "gravity-half": Variant(gravity=4.905),
    "gravity-three-quarters": Variant(gravity=7.3575),
    "gravity-one-and-half": Variant(gravity=14.715),
    "gravity-one-and-quarter": Variant(gravity=12.2625),
    "big-torso": Variant(geoms=_TORSO, scale=1.25),
    "small-torso": Variant(geoms=_TORSO, scale=0.75),
    "big-thigh": Variant(geoms=_THIGH, scale=1.25),
    "small-thigh": Variant(geoms=_THIGH, scale=0.75),
    "big-leg": Variant(geoms=_LEG, scale=1.25),
    "small-leg": Variant(geoms=_LEG, scale=0.75),
    "big-foot": Variant(geoms=_FOOT, scale=1.25),
    "small-foot": Variant(geoms=_FOOT, scale=0.75),
}
"""Every variant; a new one is a line here."""

SUITES: dict[str, tuple[str, ...]] = {
    "mt5": tuple(name for name in VARIANTS if name.startswith("gravity-")),
    "mt8": tuple(name for name in VARIANTS if not name.startswith("gravity-")),
}
"""The groups of Henderson et al. 2017, in the order of He et al. 2024 (CTPG)."""

_PREFIX = "halfcheetah/"


def variant(task: str) -> Variant:
    """Return what task halfcheetah/<variant> changes.

    Raises:
        BadInput: there is no such variant.
    """
    name = task.removeprefix(_PREFIX)
    if not task.startswith(_PREFIX) or name not in VARIANTS:
        raise _unknown(task, [_PREFIX + known for known in VARIANTS])
    return VARIANTS[name]


def expand(name: str) -> tuple[str, ...]:
    """Return the tasks that halfcheetah/<suite> or halfcheetah/<variant> stands for, in order.

    Raises:
        BadInput: there is no such suite or variant.
    """
    if name in suites():
        return tuple(_PREFIX + each for each in SUITES[name.removeprefix(_PREFIX)])
    if name.removeprefix(_PREFIX) not in VARIANTS or not name.startswith(_PREFIX):
        raise _unknown(name, [*suites(), *(_PREFIX + known for known in VARIANTS)])
    return (name,)


def suites() -> tuple[str, ...]:
    """Return the names of the suites."""
    return tuple(_PREFIX + name for name in SUITES)


def _unknown(name: str, known: list[str]) -> BadInput:
    return BadInput(
        f"unknown task '{name}'.{did_you_mean(name, known)} Available: {', '.join(known)}."
    )
