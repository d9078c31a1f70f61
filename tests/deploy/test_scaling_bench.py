"""The scaling benchmark: a real run in seconds, its table in a page, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import pytest
import tyro

from benchmarks import scaling, scaling_run
from benchmarks.scaling_table import BEGIN, END, Measured, costs, full_event_loop, markdown
from repertory.errors import BadInput


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One run of two workers, with the page it filled and the file it wrote."""
    folder = tmp_path_factory.mktemp("scaling")
    page, output = folder / "page.md", folder / "found.json"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    # Steps of 0.1 s: the machine is busy with other tests, and sleeping is what is measured.
    settings = {"workers": 2, "step-ms": 100, "seconds": 5, "lanes": 4, "unroll-length": 5}
    files = {"output": output, "markdown": page}
    scaling.main([f"--{name}={value}" for name, value in (settings | files).items()])
    return json.loads(output.read_text())["measured"][0], page.read_text()


def test_two_workers_deliver_what_their_step_time_allows_and_nothing_above_it(measured):
    row, _ = measured
    # 2 workers of 4 lanes at 10 steps per second; deliveries come in lumps of 20 steps.
    assert 40 < row["steps_per_s"] <= 80 + 40 / 4
    assert row["ideal_share"] == pytest.approx(row["steps_per_s"] / 80)
    assert row["replaced"] == 0


def test_every_part_of_the_run_is_seen_to_cost_time_and_memory(measured):
    row, _ = measured
    for part in ("learner", "driver", "ray", "worker"):
        assert row[f"{part}_cpu_ms"] > 0.0
    # Threads of the learner's process, whose time the system counts in hundredths of a second.
    of_threads = row["event_loop_cpu_ms"] + row["updates_cpu_ms"]
    unrolls = 5 * row["unrolls_per_s"]
    assert 0.0 < of_threads <= row["learner_cpu_ms"] + 3 * 10 / unrolls
    assert row["worker_pss_mib"] > 50
    assert row["pull_ms"] > 0.0
    # Width 64: three inputs, two layers or more, four actions and a value, in float32.
    assert row["publication_kib"] > 3 * 64 * 4 / 1024


def test_the_page_has_the_new_table_between_its_marks_and_all_else_as_before(measured):
    row, page = measured
    assert page.startswith("# Before\n\n")
    assert page.endswith("\n\nafter\n")
    assert "old" not in page
    assert "| workers | 2 |" in page
    assert f"| steps/s | {row['steps_per_s']:,.0f} |" in page


def row_at(rate: float, learner_cores: float) -> Measured:
    values = {field.name: 1.0 for field in dataclasses.fields(Measured)}
    values |= {"unrolls_per_s": rate, "learner_cpu_ms": 1000 * learner_cores / rate}
    return Measured(**values)


def test_cost_at_rest_and_cost_per_unroll_are_told_apart():
    rows = [row_at(rate, 0.05 + 0.002 * rate) for rate in (2.0, 10.0, 40.0)]
    rest, per_unroll_ms = costs(rows)["learner"]
    assert rest == pytest.approx(0.05)
    assert per_unroll_ms == pytest.approx(2.0)


def test_a_full_event_loop_is_told_in_workers_of_both_kinds():
    # 5 ms per unroll are 200 unrolls a second.
    said = full_event_loop(5.0, each=0.5)
    assert "= 200 unrolls/s: 400 workers of this kind, 59 that play Atari" in said
    rows = [row_at(rate, 0.05 + 0.002 * rate) for rate in (2.0, 10.0, 40.0)]
    rows = [dataclasses.replace(row, event_loop_cpu_ms=4.0, replaced=0) for row in rows]
    # A worker of the first row delivers 2 unrolls/s; what an unroll costs is the same in all.
    assert "c = 4.00 ms per unroll" in markdown(rows, "")
    assert "250 unrolls/s: 125 workers of this kind, 74 that play Atari" in markdown(rows, "")


def test_steps_that_do_not_sleep_have_no_ideal_and_the_command_repeats_what_was_measured():
    options = scaling_run.Options(suite="atari", workers=(1, 2), seconds=30.0, lanes=32)
    config = scaling_run.config_of(options, 2)
    assert (config.environment.suite, config.network.torso) == ("atari", "shallow")
    # Nothing sleeps, so that no window is too short for a number of steps.
    scaling_run.check(options)
    said = scaling_run.command(options)
    assert "--suite atari" in said
    assert "--step-ms" not in said
    assert tyro.cli(scaling_run.Options, args=said.split()[3:]) == options
    rows = [row_at(rate, 0.1) for rate in (2.0, 10.0)]
    rows = [dataclasses.replace(row, ideal_share=None, replaced=0) for row in rows]
    assert "of ideal" not in markdown(rows, said)
    assert "| steps/s |" in markdown(rows, said)


def test_more_workers_than_memory_holds_are_refused_with_the_number_that_fits():
    with pytest.raises(BadInput, match=r"100000 workers take about .* GiB.*at most \d+ fit"):
        scaling_run.check(scaling_run.Options(workers=(2, 100_000)))


def test_no_workers_too_short_a_window_and_a_page_without_marks_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"seconds: 12 hold fewer than ten unrolls.*at least 100"):
        scaling_run.check(scaling_run.Options(step_ms=500.0, seconds=12.0))
    with pytest.raises(BadInput, match="need numbers above 0, got 0"):
        scaling_run.check(scaling_run.Options(workers=(4, 0)))
    page = tmp_path / "page.md"
    page.write_text("nothing marked\n")
    with pytest.raises(BadInput, match="no table between the marks"):
        scaling_run.check(scaling_run.Options(markdown=str(page)))
