"""A training run over several hosts: one that joins late, one that is cut off, one that dies.

One run is played through (it takes minutes), and each test looks at a part of it. A worker has one
lane and there are as many tasks as workers: steps of task i are deliveries of worker i.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, Network
from runs_on_hosts import (
    CUT_S,
    HEALED_S,
    NOTICED_S,
    ONCE,
    RECOVERED,
    STARTED_S,
    STEP_S,
    TIMEOUT_S,
    Run,
    played,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

WORKERS = range(4)


@dataclass
class Story:
    """What was seen, in the order of the run."""

    run: Run
    hosts: dict[int, Host]
    waited_at_first: list[dict[str, Any]] = field(default_factory=list)
    first_places: list[tuple[int, str]] = field(default_factory=list)
    joined_s: float = 0.0
    joined_places: list[tuple[int, str]] = field(default_factory=list)
    joined_rates: list[float] = field(default_factory=list)
    cut_noticed_s: float = 0.0
    cut_steps: list[float] = field(default_factory=list)
    healed_s: float = 0.0
    healed_rates: list[float] = field(default_factory=list)
    lost_noticed_s: float = 0.0
    lost_steps: list[float] = field(default_factory=list)
    recovered_s: float = 0.0
    recovered_places: list[tuple[int, str]] = field(default_factory=list)
    recovered_rates: list[float] = field(default_factory=list)
    exit_code: int | None = None


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Play the run through."""
    yield from played(tmp_path_factory, _play)


def _play(network: Network, folder: Path) -> Story:
    head = network.head(cores=1)
    near = network.join(1, cores=2)
    run = Run(head, folder, count=len(WORKERS), lanes=1)
    story = Story(run, {0: head, 1: near})

    run.comes("two of four workers are told to wait", lambda: run.events("workers_waiting"), 240)
    story.waited_at_first = run.events("workers_waiting")
    story.first_places = run.places()
    placed = {worker for worker, _ in story.first_places}
    run.comes("the workers with a core deliver", lambda: run.delivering(placed), 120)

    # A node joins.
    late = story.hosts[2] = network.join(2, cores=2)
    story.joined_s = run.comes("all four deliver", lambda: run.delivering(WORKERS), 180)
    story.joined_places = run.places()
    story.joined_rates = run.rates()

    # It is cut off without a word, and joined again.
    away = {worker for worker, place in story.joined_places if place == late.address}
    replaced, steps = len(run.events("worker_replaced")), run.steps()
    late.link(up=False)
    began = time.monotonic()
    story.cut_noticed_s = run.comes(
        "both workers of the host that was cut off are replaced",
        lambda: len(run.events("worker_replaced")) >= replaced + len(away),
        CUT_S,
    )
    run.comes("the cut has lasted", lambda: time.monotonic() - began > CUT_S, CUT_S)
    story.cut_steps = [now - before for now, before in zip(run.steps(), steps, strict=True)]
    assert run.delivering(set(WORKERS) - away)
    late.link(up=True)
    story.healed_s = run.comes("all deliver again", lambda: run.delivering(WORKERS), 240)
    story.healed_rates = run.recovered_rates(sum(story.joined_rates))

    # It dies, and another one comes in its place.
    replaced, steps = len(run.events("worker_replaced")), run.steps()
    away = {worker for worker, place in _newest(run) if place == late.address}
    late.kill()
    story.lost_noticed_s = run.comes(
        "the workers of the dead host are replaced",
        lambda: len(run.events("worker_replaced")) >= replaced + len(away),
        60,
    )
    story.hosts[3] = network.join(3, cores=2)
    story.recovered_s = run.comes("all deliver once more", lambda: run.delivering(WORKERS), 240)
    story.recovered_places = _newest(run)
    story.lost_steps = [now - before for now, before in zip(run.steps(), steps, strict=True)]
    story.recovered_rates = run.recovered_rates(sum(story.joined_rates))
    story.exit_code = run.stop()
    return story


def _newest(run: Run) -> list[tuple[int, str]]:
    """Return where each worker is now."""
    return sorted(dict(run.places()).items())


def test_a_run_begins_with_the_workers_that_fit_and_says_how_many_wait(story: Story) -> None:
    assert story.waited_at_first[0]["waiting"] == 2
    assert story.waited_at_first[0]["wanted"] == 4
    assert [place for _, place in story.first_places] == [story.hosts[1].address] * 2


def test_a_host_that_joins_is_used_within_seconds_and_steps_come_from_both(story: Story) -> None:
    assert story.joined_s < STARTED_S
    workers, places = zip(*sorted(story.joined_places), strict=True)
    assert workers == tuple(WORKERS)
    assert sorted(places) == [story.hosts[1].address] * 2 + [story.hosts[2].address] * 2


def test_a_host_cut_off_in_silence_is_noticed_by_our_own_deadline(story: Story) -> None:
    # Ray's own would take a minute where it is not told otherwise.
    assert story.cut_noticed_s < TIMEOUT_S + NOTICED_S
    reasons = [event["reason"] for event in story.run.events("worker_replaced")]
    assert len(reasons) >= 2
    silences = [float(found[1]) for r in reasons if (found := re.match(r"silent for (\d+) s", r))]
    assert silences
    # By the driver's own clock: not before the deadline, and not much after it.
    assert all(TIMEOUT_S <= silent < TIMEOUT_S + NOTICED_S for silent in silences)


def test_the_others_play_on_while_a_host_is_away(story: Story) -> None:
    away = {worker for worker, place in story.joined_places if place == story.hosts[2].address}
    ideal = CUT_S / STEP_S
    for worker in WORKERS:
        if worker in away:
            assert story.cut_steps[worker] < ideal / 4
        else:
            assert story.cut_steps[worker] > ideal / 4


def test_after_the_heal_every_worker_delivers_once_and_as_much_as_before(story: Story) -> None:
    assert story.healed_s < HEALED_S
    assert sum(story.healed_rates) >= RECOVERED * sum(story.joined_rates)
    for rate in story.healed_rates:
        assert 0 < rate < ONCE / STEP_S


def test_a_dead_hosts_workers_are_missed_at_once_and_start_on_the_next_one(story: Story) -> None:
    assert story.lost_noticed_s < NOTICED_S
    assert story.recovered_s < STARTED_S
    places = dict(story.recovered_places)
    assert sorted(places) == list(WORKERS)
    assert list(places.values()).count(story.hosts[3].address) == 2
    assert all(steps > 0 for steps in story.lost_steps)
    assert sum(story.recovered_rates) >= RECOVERED * sum(story.joined_rates)


def test_the_run_ends_with_a_checkpoint_and_has_refused_what_came_twice(story: Story) -> None:
    assert story.exit_code == 143
    assert list((story.run.path / "checkpoints").glob("step_*"))
    last = [row for row in story.run.rows() if "health/actor_restarts" in row][-1]
    assert last["health/actor_restarts"] == len(story.run.events("worker_replaced"))
    assert last["health/actors_waiting"] == 0
