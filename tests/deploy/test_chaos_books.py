"""The chaos run's books: what they find wrong, and a short run that they find right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import chaos, chaos_run, process_lives
from benchmarks.chaos_books import Book, Books, read_books, settle
from benchmarks.chaos_hosts import keep_book, steps_in, steps_of
from benchmarks.recoveries import recoveries
from deploy.local import LocalRun
from repertory.types import Unroll
from replay.ledger import DeliveryLedger


def row(**changes: float) -> dict[str, Any]:
    whole: dict[str, Any] = {"env_steps": 30, "updates": 105, "learner/nonfinite_updates": 2}
    for task, mean in enumerate((21.0, 28.0, 36.0)):
        whole |= {f"task/counting/{task}/steps": 10, f"task/counting/{task}/return": mean}
    return whole | changes


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([row(), row()], []),
        ([row(), row(**{"task/counting/1/steps": 11})], ["add up to 31"]),
        ([row(), row(**{"task/counting/2/return": 35.5})], ["counting/2 was not whole"]),
        ([row(env_steps=99), row()], ["behind where it had been"]),
        ([row(), row(**{"learner/nonfinite_updates": 3})], ["3 updates were not finite, 2 were"]),
    ],
)
def test_the_metrics_of_a_chaos_run_show_what_is_wrong(
    rows: list[dict[str, Any]], wrong: list[str]
) -> None:
    found = chaos.faults_in_the_rows(rows, poisoned=True)
    assert len(found) == len(wrong)
    for sentence, part in zip(found, wrong, strict=True):
        assert part in sentence


def taken(sequence: int, steps: Sequence[int] = (2, 1), incarnation: int = 0) -> dict[str, Any]:
    return {
        "what": "taken",
        "worker": 0,
        "incarnation": incarnation,
        "sequence": sequence,
        "steps": list(steps),
        "torn": False,
    }


def noted(what: str, *steps: int) -> dict[str, Any]:
    return {"what": what, "steps": list(steps)}


ACTED = {(0, 0, n): [2, 1] for n in range(1, 6)} | {(0, 1, n): [1, 1] for n in range(1, 4)}
"""Five deliveries of a worker, and three of the one that came after it."""
FIRST = [
    *(taken(1), taken(2), noted("saved", 4, 2)),
    # The fourth and the fifth were under way when all was lost, and the third is rolled back.
    taken(3),
]
SECOND = [
    *(noted("restored", 4, 2), taken(1, (1, 1), 1), taken(2, (1, 1), 1)),
    *(taken(3, (1, 1), 1), noted("saved", 7, 5)),
]


def test_what_was_acted_is_kept_rolled_back_or_lost_under_way() -> None:
    account, wrong = settle(Books(ACTED, [FIRST, SECOND]), [7, 5], 2)
    assert wrong == []
    assert (account.acted, account.kept, account.rolled_back) == (21, 12, 3)
    assert (account.under_way, account.lost_deliveries) == (6, 2)
    assert str(account).startswith("21 steps acted = 12 kept + 3 rolled back")


@pytest.mark.parametrize(
    ("replays", "kept", "wrong"),
    [
        ([[*FIRST, taken(3)], SECOND], [7, 5], ["(0, 0, 3) was taken 2 times"]),
        # Once before and once after the run went back to a checkpoint that has it.
        ([FIRST, [*SECOND[:-1], taken(2), noted("saved", 9, 6)]], [9, 6], ["taken 2 times"]),
        ([[*FIRST[:-1], taken(3, (2, 2))], SECOND], [7, 5], ["[2, 2] steps were counted, [2, 1]"]),
        ([[*FIRST, taken(9)], SECOND], [7, 5], ["nobody acted it"]),
        # The third never came, and the worker acted two more.
        ([FIRST[:-1], SECOND], [7, 5], ["(0, 0, 3) was lost, and the worker went on to 5"]),
        ([FIRST, [noted("restored", 6, 2), *SECOND[1:]]], [7, 5], ["which no checkpoint had"]),
        ([FIRST, [*SECOND[:-1], noted("saved", 8, 5)]], [8, 5], ["[8, 5] of [7, 5] steps taken"]),
        ([FIRST, SECOND], [7, 4], ["no replay had saved"]),
        ([FIRST, [*SECOND[:-2], {**SECOND[-2], "torn": True}, SECOND[-1]]], [7, 5], ["episodes"]),
    ],
)
def test_the_books_name_what_is_wrong(
    replays: list[list[dict[str, Any]]], kept: list[int], wrong: list[str]
) -> None:
    _, found = settle(Books(ACTED, replays), kept, 2)
    assert found
    for part in wrong:
        assert any(part in sentence for sentence in found), found


def booked(folder: Path) -> tuple[LocalRun, Book, list[Unroll]]:
    """Return a chaos run in this process whose experience keeps a book, a worker's, and unrolls."""
    local = LocalRun(chaos_run.config_of(chaos_run.Options(), broken=False))
    keep_book(local.experience, Book("replay", folder))
    worker = Book("worker", folder)
    unrolls = []
    for _ in range(3):
        unrolls.append(local.workers[0].iterate())
        names = {"worker": unrolls[-1].worker, "incarnation": unrolls[-1].incarnation}
        steps = steps_of(unrolls[-1])
        worker.note("acted", **names, sequence=unrolls[-1].sequence, steps=steps)
    return local, worker, unrolls


def test_deliveries_of_a_real_replay_come_out_even(tmp_path: Path) -> None:
    local, _, unrolls = booked(tmp_path)
    try:
        for unroll in unrolls[:2]:
            local.experience.insert(unroll)
            # What is sent again is refused, and written down as such.
            local.experience.insert(unroll)
        kept = steps_in(local.state())
        account, wrong = settle(read_books(tmp_path), kept, 2)
        assert wrong == []
        assert account.kept == sum(kept) == sum(sum(steps_of(one)) for one in unrolls[:2]) > 0
        assert account.lost_deliveries == 1
        # A checkpoint that is gone back to: the third delivery is lost, not missing.
        saved = local.experience.state(contents=False)
        local.experience.insert(unrolls[2])
        other = LocalRun(chaos_run.config_of(chaos_run.Options(), broken=False))
        keep_book(other.experience, Book("replay", tmp_path))
        other.experience.restore(saved)
        other.experience.state(contents=False)
        other.close()
        account, wrong = settle(read_books(tmp_path), kept, 2)
        assert wrong == []
        assert account.rolled_back == sum(steps_of(unrolls[2]))
    finally:
        local.close()


def test_a_delivery_that_is_inserted_twice_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeliveryLedger, "accept", lambda *_: True)
    local, _, unrolls = booked(tmp_path)
    try:
        local.experience.insert(unrolls[0])
        local.experience.insert(unrolls[0])
        kept = steps_in(local.state())
        _, wrong = settle(read_books(tmp_path), kept, 3)
    finally:
        local.close()
    assert any("was taken 2 times" in sentence for sentence in wrong)
    assert any("the sum does not come out" in sentence for sentence in wrong)


def test_an_unroll_with_steps_of_two_episodes_is_found(tmp_path: Path) -> None:
    local, _, unrolls = booked(tmp_path)
    try:
        mixed = unrolls[0].observation.copy()
        mixed[2:, 0] = unrolls[0].observation[2:, 0] + np.array([0, 1, 0], np.float32)
        local.experience.insert(replace(unrolls[0], observation=mixed))
        kept = steps_in(local.state())
        _, wrong = settle(read_books(tmp_path), kept, 3)
    finally:
        local.close()
    (sentence,) = wrong
    assert "different episodes" in sentence


def test_a_process_that_grows_is_told_from_one_that_has_grown() -> None:
    begun = [(float(second), 100.0 + min(second, 60), 7) for second in range(300)]
    assert process_lives.growth_of("learner", begun).megabytes_per_minute == pytest.approx(0.0)
    growing = [(float(second), 100.0 + second / 30, 7 + second // 60) for second in range(300)]
    found = process_lives.growth_of("learner", growing)
    assert found.megabytes_per_minute == pytest.approx(2.0)
    assert found.files_per_minute == pytest.approx(1.0, abs=0.2)
    assert str(found) == "learner, 299 s: +2.00 MiB and +1.0 open files a minute"


def test_how_long_workers_were_away_is_told_where_one_fault_stands_alone() -> None:
    def came(at: float, worker: int, incarnation: int) -> dict[str, Any]:
        return taken(1, incarnation=incarnation) | {"at": at, "worker": worker}

    replay = [
        *(came(float(at), at % 2, 0) for at in range(10)),
        # The first is killed at 10 and back at 14, the second plays on; then both are killed.
        *(came(11.0, 1, 0), came(13.5, 1, 0), came(14.0, 0, 1), came(19.0, 1, 0)),
        *(came(29.0, 1, 3), came(29.5, 0, 3)),
        # Another fault comes before anybody is back.
        *(came(50.0, 1, 4),),
    ]
    strikes = [(10.0, "worker killed"), (20.0, "all workers killed")]
    strikes += [(30.0, "worker killed"), (31.0, "learner killed")]
    books = Books({}, [replay])
    first, second = recoveries(books, strikes, hangs=lambda incarnation: incarnation == 2)
    assert str(first) == "worker killed: back after 4.0 s, a pause of 2.5 s"
    assert (second.back_s, second.pause_s) == (9.0, 9.0)
    assert first.wrong(1.0) == second.wrong(1.0) == []
    assert len(first.wrong(0.25)) == 2
    assert len(second.wrong(0.25)) == 1
    # One that hangs by itself is no one fault alone.
    assert recoveries(books, strikes, hangs=lambda incarnation: incarnation == 3) == [first]


def test_the_rate_of_a_run_is_of_what_came_after_its_last_restart() -> None:
    before = [{"wall_s": 10.0 * n, "env_steps": 1000 * n} for n in range(10)]
    after = [{"wall_s": 60.0 + n, "env_steps": 6000 + 7 * n} for n in range(10)]
    assert chaos.rate([*before, *after]) == pytest.approx(7.0)


@pytest.mark.slow
def test_a_minute_of_chaos_leaves_the_books_right(capsys: pytest.CaptureFixture[str]) -> None:
    # On a machine that others use, a quarter of a minute says nothing about speed.
    assert chaos.main(["--minutes", "1", "--seed", "3", "--slower", "0.01"]) == 0
    assert "killed" in capsys.readouterr().out
