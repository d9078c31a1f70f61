"""Killed workers are back as soon as the page on faults promises, by the books of the replay."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heartbeats import at_heartbeats
from small_runs import new_run

from benchmarks.chaos_books import read_books
from benchmarks.chaos_hosts import parts_of_chaos
from benchmarks.chaos_run import Fault, Options, config_of, strike
from benchmarks.recoveries import BACK_S, recoveries
from deploy import cluster
from deploy.cluster.supervisor import Supervisor


@pytest.mark.slow
def test_one_killed_worker_is_back_in_time_while_the_other_plays_and_all_are_in_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(Options(), broken=False)
    run = new_run(tmp_path, config)
    books = tmp_path / "books"
    books.mkdir()
    strikes: list[tuple[float, str]] = []
    faults: list[Fault] = ["worker killed", "all workers killed"]
    assert set(faults) == set(BACK_S)
    random = np.random.default_rng(1)

    def kill(_: Supervisor, beat: Any) -> None:
        now = time.monotonic()
        # What comes sooner than the time that is allowed would hide that it took longer.
        over = now > strikes[-1][0] + BACK_S[strikes[-1][1]] if strikes else beat.updates > 20
        if not over:
            return
        if len(strikes) == len(faults):
            os.kill(os.getpid(), signal.SIGTERM)
            return
        fault = faults[len(strikes)]
        assert strike(fault, random)
        strikes.append((now, fault))

    at_heartbeats(monkeypatch, kill)
    with parts_of_chaos(books):
        assert cluster.train(config, run, False) == 143
    found = recoveries(read_books(books), strikes, hangs=lambda _: False)
    assert [recovery.fault for recovery in found] == faults
    assert [recovery.wrong(1.0) for recovery in found] == [[], []]
