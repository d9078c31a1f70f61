"""deploy/launch/slurm.sbatch on two hosts with the real `ray symmetric-run` and a real run: the job
is told to end, saves, queues itself again, and goes on to its end when it is started once more.

Slurm alone is not the real one (`slurm_on_hosts`). One job is played through, and each test looks
at a part of it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hosts import Host, Network, wait_for
from runs_on_hosts import places_in, played
from slurm_on_hosts import JOB, Slurm

from repertory import checkpoint
from repertory.metrics.jsonl import read_rows

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

CORES = 3
STEPS = 40_000
OPTIONS = [
    *["--total_steps", str(STEPS)],
    *["--actors.lanes", "4"],
    *["--evaluation.at_end", "false"],
    *["--logging.wandb", "disabled"],
    *["--logging.every_s", "0.5"],
]
GRACE_S = 15.0
STARTS_S = 240.0
"""Of the wall's clock: Ray on two hosts, three workers with emulators, and the learner."""


@dataclass
class Story:
    """What was seen, in the order of the job."""

    addresses: list[str]
    worked_on: set[str] = field(default_factory=set)
    told_code: int | None = None
    told_said: str = ""
    told_requeued: bool = False
    told_left: list[str] = field(default_factory=list)
    saved_steps: int = 0
    secrets_left: bool = True
    ended_code: int | None = None
    ended_said: str = ""
    ended_requeued: bool = True
    ended_steps: int = 0
    began_steps: int = 0


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Play the job through."""
    yield from played(tmp_path_factory, _play)


def _play(network: Network, folder: Path) -> Story:
    hosts = [network.add(number) for number in range(2)]
    slurm = Slurm(hosts, folder, cores=CORES)
    run = folder / "runs" / "quickstart"
    story = Story([host.address for host in hosts])

    def updates() -> int:
        rows = read_rows(run / "metrics.jsonl")
        return max((int(row.get("updates", 0)) for row in rows), default=0)

    try:
        job = slurm.start("quickstart", *OPTIONS)
        output = hosts[0].output("job")

        def learning() -> bool:
            assert job.poll() is None, output.read_text()
            return updates() >= 10 and len(places_in(run)) == 3

        wait_for("the run learns from three workers", learning, STARTS_S)
        story.worked_on = {place for _, place in places_in(run)}
        slurm.signal(job)
        story.told_code = job.wait(timeout=120)
        story.told_said = output.read_text()
        story.told_requeued = slurm.requeued()
        story.told_left = _left_after_a_while(hosts)
        story.secrets_left = (folder / f".repertory-{JOB}").exists()
        story.saved_steps = _saved(run)
        seen = len(read_rows(run / "metrics.jsonl"))

        job = slurm.start("quickstart", *OPTIONS)
        story.ended_code = job.wait(timeout=STARTS_S + 120)
        story.ended_said = output.read_text()[len(story.told_said) :]
        story.ended_requeued = slurm.requeued()
        story.ended_steps = _saved(run)
        after = [row for row in read_rows(run / "metrics.jsonl")[seen:] if "env_steps" in row]
        story.began_steps = int(after[0]["env_steps"])
    finally:
        slurm.close()
    return story


def _left_after_a_while(hosts: Sequence[Host]) -> list[str]:
    """Return what still runs when Ray's helpers, which outlive their node, have had time."""
    until = time.monotonic() + GRACE_S
    while True:
        left = [line for host in hosts for line in host.processes()]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.5)


def _saved(run: Path) -> int:
    state, _, _ = checkpoint.load_latest(run / "checkpoints")
    return int(state["counters"]["env_steps"])


def test_symmetric_run_gathers_both_hosts_and_the_runs_workers_play_on_each(story: Story) -> None:
    assert story.worked_on == set(story.addresses)


def test_a_job_told_to_end_saves_queues_itself_again_and_leaves_nothing_behind(
    story: Story,
) -> None:
    # The run's own, which says that it was told to; Slurm, which starts it again, does not mind it.
    assert story.told_code == 128 + signal.SIGTERM, story.told_said
    assert story.told_requeued
    assert 0 < story.saved_steps < STEPS
    assert story.told_left == []
    assert not story.secrets_left


def test_the_same_job_started_again_goes_on_from_there_to_the_end(story: Story) -> None:
    assert story.ended_code == 0, story.ended_said
    assert not story.ended_requeued
    assert story.began_steps >= story.saved_steps
    assert story.ended_steps >= STEPS
