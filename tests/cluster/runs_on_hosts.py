"""A training run over several hosts, and what one beside it sees of it: who plays where, how fast,
and how long a change takes.

The environment sleeps, so that the rates below are the run's own and hardly the machine's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hosts import BIN, PORT, Host, Network, wait_for, why_not

STEP_S = 0.05
TIMEOUT_S = 8.0
CUT_S = 40.0
RATES_S = 10.0
"""Of the run's own clock, over which rates are taken."""
TASKS = [f"counting/{index}" for index in range(4)]

# Bounds in seconds of play (`Run.played_s`), which go by more slowly where the machine is busy.
NOTICED_S = 15.0
"""From when a host's silence is too long, or its connections break, until the run says so."""
STARTED_S = 30.0
"""From when a host's node is in the cluster until its workers deliver. A start takes some 3 s of
CPU, of each of two at once, and twenty others may want the same two cores.
"""
HEALED_S = 20.0 + STARTED_S
"""From when a host is joined again until its workers deliver. A broken connection is tried again
after pauses that double, up to 20 s; then the node hears that it was given up, and starts anew.
"""
RECOVERED = 0.7
"""Of a rate before a fault: what there is at least after the recovery."""
RECOVERS_S = 120.0
"""How long a machine that others have made busy meanwhile is given for that."""
ONCE = 1.2
"""Of what the step's time allows: what one player of a lane delivers at most. Two would be 2."""

Story = TypeVar("Story")


def played(
    factory: pytest.TempPathFactory, play: Callable[[Network, Path], Story]
) -> Iterator[Story]:
    """Yield what `play` saw in a network that is gone afterwards; skip where there can be none."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"several hosts on one machine need network namespaces: {reason}")
    folder = factory.mktemp("hosts")
    network = Network(folder)
    try:
        yield play(network, folder)
    finally:
        network.close()


def places_in(run: Path) -> list[tuple[int, str]]:
    """Return worker and address, in the order in which they came, by the log of a run."""
    file = run / "log.txt"
    text = file.read_text() if file.exists() else ""
    return [(int(one), place) for one, place in re.findall(r"worker (\d+) is on (\S+)", text)]


class Run:
    """A run whose driver is on the head; what it has written so far is read beside it.

    Worker 0 is to play on all the time: `played_s` goes by what it delivers.
    """

    def __init__(self, head: Host, folder: Path, *, count: int | str, lanes: int) -> None:
        self.path = folder / "run"
        self._head = head
        self._lanes = lanes
        settings = {
            "tasks": TASKS,
            "held_out": [],
            "environment": {"suite": "counting", "step_seconds": STEP_S},
            "network": {"torso": "mlp", "hidden": 16},
            "actors": {
                "count": count,
                "lanes": lanes,
                "precision": "fp32",
                "timeout_s": TIMEOUT_S,
            },
            "learner": {
                "batch_size": 8,
                "unroll_length": 5,
                "device": "cpu",
                "compile": "off",
                "precision": "fp32",
            },
            "queue": {"patience_s": 1.0},
            "total_steps": 10**9,
            "logging": {"wandb": "disabled", "every_s": 0.5},
            "checkpoint": {"every_s": 3600.0},
            "evaluation": {"at_end": False},
        }
        (folder / "run.yaml").write_text(yaml.safe_dump(settings))
        self._driver = head.start(
            *["driver", str(BIN / "repertory"), "train", "--config", "run.yaml"],
            *["--runs_dir", str(folder), "--name", "run"],
            *["--address", f"{head.address}:{PORT}"],
        )

    # -- time ------------------------------------------------------------------------------------

    def comes(self, what: str, condition: Callable[[], object], deadline_s: float) -> float:
        """Wait until `condition` holds and return the seconds of play that took.

        The driver must live. `deadline_s` is of the wall's clock.
        """

        def met() -> bool:
            assert self._driver.poll() is None, self._head.output("driver").read_text()
            return bool(condition())

        began_s = self.played_s()
        wait_for(what, met, deadline_s)
        return self.played_s() - began_s

    def played_s(self) -> float:
        """Return for how long worker 0 has played, by its steps.

        It only sleeps, so that this is the wall's clock where the machine gives it its turns, and
        slower where starts and all else that takes CPU are slower, too.
        """
        rows = self.rows()
        name = TASKS[0]
        of_a_lane = sum(
            (later[f"task/{name}/steps"] - row[f"task/{name}/steps"]) / later[f"task/{name}/lanes"]
            for row, later in pairwise(rows)
            if later[f"task/{name}/lanes"]
        )
        # A worker steps its lanes one after another.
        return of_a_lane * STEP_S * self._lanes

    def stop(self) -> int:
        """End the run by SIGTERM and return its exit code."""
        self._head.terminate(self._driver)
        return self._driver.wait(timeout=120)

    # -- records ---------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return the metrics of every row that has all tasks' steps."""
        return [row for row in self._lines("metrics.jsonl") if f"task/{TASKS[0]}/steps" in row]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind."""
        return [event for event in self._lines("events.jsonl") if event["kind"] == kind]

    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self.path / name
        if not file.exists():
            return []
        # The last line may be half written.
        return [json.loads(line) for line in file.read_text().split("\n")[:-1]]

    def places(self) -> list[tuple[int, str]]:
        """Return worker and address, in the order in which they came."""
        return places_in(self.path)

    # -- play ------------------------------------------------------------------------------------

    def steps(self) -> list[float]:
        """Return the steps received so far of every task."""
        rows = self.rows()
        return [rows[-1][f"task/{task}/steps"] for task in TASKS] if rows else [0.0] * len(TASKS)

    def delivering(self, tasks: Collection[int]) -> bool:
        """Whether each of these has had steps since two seconds of the run's own time ago."""
        rows = self.rows()
        before = [row for row in rows if row["wall_s"] <= rows[-1]["wall_s"] - 2.0]
        names = [f"task/{TASKS[task]}/steps" for task in tasks]
        return bool(before) and all(rows[-1][name] > before[-1][name] for name in names)

    def rates(self) -> list[float]:
        """Watch for a while and return the steps per second of every task."""
        first = self.rows()[-1]
        until = first["wall_s"] + RATES_S
        self.comes("there are records of a while", lambda: self.rows()[-1]["wall_s"] > until, 60)
        last = self.rows()[-1]
        elapsed = last["wall_s"] - first["wall_s"]
        names = [f"task/{task}/steps" for task in TASKS]
        return [(last[name] - first[name]) / elapsed for name in names]

    def recovered_rates(self, before: float) -> list[float]:
        """Watch until all tasks together are nearly as fast as before, or time is up; return how
        fast each is by then.
        """
        began = time.monotonic()
        rates = self.rates()
        while sum(rates) < RECOVERED * before and time.monotonic() - began < RECOVERS_S:
            rates = self.rates()
        return rates
