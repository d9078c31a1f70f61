"""Chaos: a small run on Ray whose parts are killed and frozen at random while its books are kept.

Workers, the learner and the replay's process are killed, workers are frozen, environments raise,
hang and answer NaN, and updates are poisoned, at times drawn from a seed. In the last quarter
nothing is killed any more. Then every step that was acted must be in the last checkpoint, rolled
back with one, or lost under way with its worker, each once (`benchmarks.chaos_books`); killed
workers must have been back in time; no process may have grown; and the last quarter must be as fast
as a run in which nothing breaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import tyro

from benchmarks.chaos_run import (
    EPISODE,
    POISONED_EVERY,
    TASKS,
    Ended,
    Options,
    Story,
    torment_a_run,
)

MOST_MEGABYTES = 1.0
MOST_FILES = 2.0
"""Per minute, of each process; judged from `JUDGED_MINUTES` on, as recoveries are."""
JUDGED_MINUTES = 5.0


def faults_in_the_rows(rows: Sequence[dict[str, Any]], *, poisoned: bool) -> list[str]:
    """Return what is wrong with the metrics of the run, in sentences."""
    wrong = []
    last = rows[-1]
    counted = sum(last.get(f"task/counting/{task}/steps", 0) for task in range(TASKS))
    if counted != last["env_steps"]:
        wrong.append(f"the tasks' steps add up to {counted:.0f}, the run's are {last['env_steps']}")
    for row in rows:
        for task in range(TASKS):
            length = EPISODE + task
            found = row.get(f"task/counting/{task}/return", length * (length - 1) / 2)
            if found != length * (length - 1) / 2:
                wrong.append(f"an episode of counting/{task} was not whole: mean return {found}")
    skipped = last.get("learner/nonfinite_updates", 0)
    due = last["updates"] // POISONED_EVERY if poisoned else 0
    if skipped != due:
        wrong.append(f"{skipped:.0f} updates were not finite, {due} were poisoned")
    if last["env_steps"] < max(row["env_steps"] for row in rows[: len(rows) // 2]):
        wrong.append("the run ended behind where it had been at half time")
    return wrong


def rate(rows: Sequence[dict[str, Any]]) -> float:
    """Return the steps per second over the second half of what came after the last restart."""
    begin = max(
        (n for n in range(1, len(rows)) if rows[n]["wall_s"] < rows[n - 1]["wall_s"]), default=0
    )
    own = rows[begin:]
    first, last = own[len(own) // 2], own[-1]
    seconds = last["wall_s"] - first["wall_s"]
    return float((last["env_steps"] - first["env_steps"]) / seconds) if seconds > 0 else 0.0


def main(arguments: Sequence[str]) -> int:
    """Torment a run and print what came of it; 1 if its books are wrong."""
    options = tyro.cli(Options, args=arguments)
    story = Story()
    ended = torment_a_run(options, story, broken=True)
    wrong = list(ended.wrong)
    if ended.rows:
        wrong += faults_in_the_rows(ended.rows, poisoned=True)
    growths = story.lives.growths()
    if options.minutes >= JUDGED_MINUTES:
        wrong += [
            f"grew: {growth}"
            for growth in growths
            if growth.megabytes_per_minute > MOST_MEGABYTES or growth.files_per_minute > MOST_FILES
        ]
        for recovery in ended.recoveries:
            wrong += recovery.wrong(options.busy)
    faults = Counter(fault for _, fault in story.strikes)
    print(f"faults: {', '.join(f'{count} x {what}' for what, count in faults.items())}")
    print(f"events: {', '.join(f'{count} x {what}' for what, count in ended.events.items())}")
    print(ended.account)
    for line in (*ended.recoveries, *growths):
        print(line)
    wrong += compare(options, ended)
    for sentence in wrong:
        print(f"wrong: {sentence}")
    print("the books are wrong" if wrong else "the books are right")
    return 1 if wrong else 0


def compare(options: Options, ended: Ended) -> list[str]:
    """Let a run of a quarter of the time go without faults, and hold the other's end to it."""
    quarter = Options(options.minutes / 4.0, options.seed)
    calm = torment_a_run(quarter, Story(), broken=False)
    found = calm.wrong + (faults_in_the_rows(calm.rows, poisoned=False) if calm.rows else [])
    wrong = [f"without faults: {sentence}" for sentence in found]
    if not (ended.rows and calm.rows):
        return wrong
    last, whole = ended.rows[-1], calm.rows[-1]
    after, without = rate(ended.rows), rate(calm.rows)
    print(
        f"{last['env_steps']:,} steps and {last['updates']:,} updates kept; {after:,.0f} steps/s "
        f"in the last quarter, {without:,.0f} in {options.minutes / 4.0:.1f} minutes without "
        f"faults ({whole['env_steps']:,} steps)"
    )
    if after < options.slower * without:
        wrong.append(f"{after:,.0f} steps/s in the end, {without:,.0f} without faults")
    return wrong


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
