"""A training run on every core of several hosts: it grows with each that joins, and of one that is
cut off or dies the others take the tasks over.

One run is played through (it takes minutes), and each test looks at a part of it. Hosts have one
core for a worker each, and a worker plays two of the four tasks: worker 0 and 2 the first two,
worker 1 the others. Each fault takes the host of worker 1, so that nobody plays these until worker
2 has given way to another worker 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
    TASKS,
    TIMEOUT_S,
    Run,
    played,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

LANES = 2
ALL = range(len(TASKS))
TAKEN_OVER_S = 16.0 + STARTED_S
"""From when a worker is missed until another one of its number delivers. After ten seconds without
a core for it a higher one stops, which is looked for every three seconds, as the free core is then.
"""


@dataclass
class Chapter:
    """What was seen after a change, from when on the run plays as it is to."""

    took_s: float
    lanes: list[float]
    waiting: float
    rates: list[float]


@dataclass
class Fault:
    """What was seen of a host that went away."""

    alone: list[int]
    """Tasks that only workers of this host had played."""
    noticed_s: float
    taken_over: Chapter


@dataclass
class Story:
    """What was seen, in the order of the run."""

    run: Run
    joined: Chapter
    cut: Fault
    healed: Chapter
    dead: Fault
    replaced: Chapter
    """After a new host has come in the place of the dead one."""
    exit_code: int

    @property
    def chapters(self) -> list[Chapter]:
        """All of them, in their order."""
        cut, dead = self.cut.taken_over, self.dead.taken_over
        return [self.joined, cut, self.healed, dead, self.replaced]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Play the run through."""
    yield from played(tmp_path_factory, _play)


def _play(network: Network, folder: Path) -> Story:
    head = network.head(cores=1)
    hosts = [network.join(number, cores=1) for number in (1, 2)]
    run = Run(head, folder, count="all", lanes=LANES)
    run.comes("there are records", run.rows, 240)
    _settled(run, 2)

    # A host joins.
    hosts.append(network.join(3, cores=1))
    joined = _settled(run, 3)

    # The host of worker 1 is cut off without a word, and joined again.
    away, began = _host_of_worker_1(run, hosts), time.monotonic()
    cut = _gone(run, away, joined, lambda: away.link(up=False))
    run.comes("the cut has lasted", lambda: time.monotonic() - began > CUT_S, CUT_S)
    away.link(up=True)
    healed = _settled(run, 3, sum(joined.rates))

    # The host of worker 1, now another one, dies; later a new one comes.
    away = _host_of_worker_1(run, hosts)
    dead = _gone(run, away, joined, away.kill)
    network.join(4, cores=1)
    replaced = _settled(run, 3, sum(joined.rates))
    return Story(run, joined, cut, healed, dead, replaced, exit_code=run.stop())


def _gone(run: Run, away: Host, joined: Chapter, goes: Callable[[], None]) -> Fault:
    """Let a host go and watch until its tasks are taken over."""
    alone, lost = _alone(run, away), len(run.events("worker_lost"))
    goes()
    noticed_s = run.comes(
        "its worker is given up", lambda: len(run.events("worker_lost")) > lost, 60
    )
    return Fault(alone, noticed_s, taken_over=_settled(run, 2, sum(joined.rates) * 2 / 3))


def _settled(run: Run, workers: int, before: float = 0.0) -> Chapter:
    """Wait until so many workers play, every task among them, and deliver."""

    def settled() -> bool:
        last = run.rows()[-1]
        played = all(last[f"task/{task}/lanes"] for task in TASKS)
        return played and last["health/actors_alive"] == workers and run.delivering(ALL)

    took_s = run.comes(f"{workers} workers play all tasks", settled, 240)
    last = run.rows()[-1]
    lanes = [last[f"task/{task}/lanes"] for task in TASKS]
    rates = run.recovered_rates(before)
    return Chapter(took_s, lanes, last["health/actors_waiting"], rates)


def _host_of_worker_1(run: Run, hosts: list[Host]) -> Host:
    address = dict(run.places())[1]
    return next(host for host in hosts if host.address == address)


def _alone(run: Run, host: Host) -> list[int]:
    """Return the tasks that are played on this host and on no other."""
    here: set[int] = set()
    elsewhere: set[int] = set()
    for worker, address in dict(run.places()).items():
        tasks = {(worker * LANES + lane) % len(TASKS) for lane in range(LANES)}
        (here if address == host.address else elsewhere).update(tasks)
    return sorted(here - elsewhere)


def test_a_host_that_joins_is_used_within_seconds(story: Story) -> None:
    assert story.joined.took_s < STARTED_S


def test_the_tasks_of_a_host_that_is_cut_off_or_dies_are_taken_over_within_seconds(
    story: Story,
) -> None:
    assert story.cut.noticed_s < TIMEOUT_S + NOTICED_S
    assert story.dead.noticed_s < NOTICED_S
    for fault in (story.cut, story.dead):
        # Else it would be for want of a task to take over that nothing is missing.
        assert fault.alone == [2, 3]
        assert fault.taken_over.took_s < TAKEN_OVER_S
        assert all(rate > 0 for rate in fault.taken_over.rates)


def test_tasks_keep_equal_parts_whoever_comes_and_goes(story: Story) -> None:
    for chapter in story.chapters:
        assert max(chapter.lanes) - min(chapter.lanes) <= 1
        of_a_lane = [rate / n for rate, n in zip(chapter.rates, chapter.lanes, strict=True)]
        assert min(of_a_lane) >= RECOVERED * max(of_a_lane)
        # A worker steps its lanes one after another.
        assert max(of_a_lane) < ONCE / (STEP_S * LANES)


def test_two_of_three_workers_have_their_part_of_the_rate_and_the_third_brings_it_back(
    story: Story,
) -> None:
    before = sum(story.joined.rates)
    assert story.healed.took_s < HEALED_S
    assert story.replaced.took_s < STARTED_S
    for fault in (story.cut, story.dead):
        assert sum(fault.taken_over.rates) >= RECOVERED * before * 2 / 3
    for back in (story.healed, story.replaced):
        assert sum(back.rates) >= RECOVERED * before


def test_nobody_waits_and_the_run_tells_of_who_came_and_went(story: Story) -> None:
    assert all(chapter.waiting == 0 for chapter in story.chapters)
    assert not story.run.events("workers_waiting")
    assert not story.run.events("worker_replaced")
    assert [event["worker"] for event in story.run.events("worker_lost")] == [1, 1]
    assert [event["workers"] for event in story.run.events("workers_gave_way")] == [[2], [2]]
    grown = [event["workers"] for event in story.run.events("workers_grew")]
    assert max(grown) == 3
    assert grown.count(3) == 3
    assert all(event["reasons"] for event in story.run.events("workers_shrank"))
    assert story.exit_code == 143
