"""The names of Meta-World's tasks and suites; the package itself is not imported here."""

from __future__ import annotations

from repertory.errors import BadInput, did_you_mean
from repertory.types import ActionSpec, ObservationSpec

OBSERVATION = ObservationSpec((39,), "float32")
"""Hand, gripper opening and objects now (18) and one step before (18), and the goal (3)."""
ACTION = ActionSpec("box", 4)
"""Displacement of the hand along three axes, and the gripper."""

MT10 = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)
"""In the benchmark's order."""

MT50 = tuple(
    """
    assembly basketball bin-picking box-close button-press-topdown button-press-topdown-wall
    button-press button-press-wall coffee-button coffee-pull coffee-push dial-turn
    disassemble door-close door-lock door-open door-unlock hand-insert drawer-close
    drawer-open faucet-open faucet-close hammer handle-press-side handle-press
    handle-pull-side handle-pull lever-pull pick-place-wall pick-out-of-hole pick-place
    plate-slide plate-slide-side plate-slide-back plate-slide-back-side peg-insert-side
    peg-unplug-side soccer stick-push stick-pull push push-wall push-back reach reach-wall
    shelf-place sweep-into sweep window-open window-close
    """.split()  # noqa: SIM905
)
"""In the benchmark's order."""

_SUITES = {"mt10": MT10, "mt50": MT50}


def expand(name: str) -> tuple[str, ...]:
    """Return the tasks that a task or a suite stands for, in the benchmark's order.

    Args:
        name: metaworld/<task>, metaworld/mt10, metaworld/mt50 or metaworld/mt1/<task>.

    Raises:
        BadInput: there is no such task or suite.
    """
    words = name.split("/")
    if len(words) == 2 and words[0] == "metaworld" and words[1] in _SUITES:
        return tuple(f"metaworld/{task}" for task in _SUITES[words[1]])
    if len(words) == 3 and words[:2] == ["metaworld", "mt1"]:
        words = ["metaworld", words[2]]
    if len(words) == 2 and words[0] == "metaworld" and words[1] in MT50:
        return ("/".join(words),)
    hint = did_you_mean(words[-1].removesuffix("-v3"), (*MT50, *_SUITES))
    raise BadInput(
        f"unknown task '{name}'.{hint} Meta-World's names are metaworld/<task>, metaworld/mt10, "
        "metaworld/mt50 and metaworld/mt1/<task>; `repertory tasks metaworld/mt50` lists the tasks."
    )


def suites() -> tuple[str, ...]:
    """Return the names that stand for several tasks."""
    return tuple(f"metaworld/{suite}" for suite in _SUITES)


def package_name(name: str) -> str:
    """Return what the package calls the task metaworld/<task>.

    Raises:
        BadInput: there is no such task.
    """
    task = expand(name)
    if len(task) != 1:
        raise BadInput(f"'{name}' is a suite of {len(task)} tasks, not a task.")
    return task[0].removeprefix("metaworld/") + "-v3"
