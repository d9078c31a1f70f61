"""Refuses to run when one of our top-level names is somebody else's package (PyPI has an `envs`).

It imports nothing of ours, because it must be able to speak when `repertory` itself is foreign.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

NAMES = ("repertory", "envs", "actors", "replay", "learner", "deploy")
HOME = Path(__file__).resolve().parent.parent


def foreign_package(home: Path = HOME) -> str | None:
    """Return a sentence that names the first of our packages found outside `home`, or None."""
    for name in NAMES:
        spec = find_spec(name)
        places = list(spec.submodule_search_locations or [str(spec.origin)]) if spec else []
        if [Path(place).resolve() for place in places] != [home / name]:
            where = places[0] if places else "nowhere"
            return (
                f"the package '{name}' comes from {where} and not from Repertory in {home}: "
                "uninstall the other package, or take its folder off PYTHONPATH"
            )
    return None
