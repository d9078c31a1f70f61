"""Metrics keep their names, their means and their rows, whatever happens around them."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from small_disk import SmallDisk

from repertory import checkpoint
from repertory.metrics import names
from repertory.metrics.aggregate import EpisodeAverages
from repertory.metrics.fan_out import FanOut
from repertory.metrics.jsonl import JsonlSink, read_rows, to_json_line
from repertory.types import EpisodeRecord

TASKS = ("atari/breakout/m0d0", "atari/pong/m0d1", "metaworld/reach")


def episode(task: int, value: float, success: bool | None = None) -> EpisodeRecord:
    return EpisodeRecord(task=task, raw_return=value, length=int(value) + 1, success=success)


def test_a_task_name_with_slashes_survives_its_metric_name() -> None:
    name = names.task_metric("atari/breakout/m0d0", names.RETURN)
    assert name == "task/atari/breakout/m0d0/return"
    assert names.split_task_metric(name) == ("atari/breakout/m0d0", "return")
    for other in ("learner/loss", "task/return", "task/", "taskreturn"):
        assert names.split_task_metric(other) is None


def test_means_over_the_window_equal_a_slow_twin() -> None:
    averages = EpisodeAverages(TASKS, window=5)
    draw = random.Random(1)
    played: list[EpisodeRecord] = []
    for _ in range(60):
        task = draw.randrange(3)
        success = draw.random() < 0.5 if task == 2 else None
        played.append(episode(task, draw.uniform(0, 30), success))
        averages.add([played[-1]])
        row = averages.metrics()
        means = []
        for index, name in enumerate(TASKS):
            mine = [record for record in played if record.task == index]
            if not mine:
                assert not [key for key in row if key.startswith(f"task/{name}/")]
                continue
            last = mine[-5:]
            means.append(sum(record.raw_return for record in last) / len(last))
            assert row[f"task/{name}/return"] == pytest.approx(means[-1])
            assert row[f"task/{name}/length"] == pytest.approx(
                sum(record.length for record in last) / len(last)
            )
            assert row[f"task/{name}/episodes"] == len(mine)
            if index == 2:
                share = sum(bool(record.success) for record in last) / len(last)
                assert row[f"task/{name}/success"] == pytest.approx(share)
                assert row["agg/success_mean"] == pytest.approx(share)
            else:
                assert f"task/{name}/success" not in row
        assert row["agg/return_mean"] == pytest.approx(sum(means) / len(means))
        assert (row["agg/episodes"], row["agg/tasks_reporting"]) == (len(played), len(means))


def test_means_go_on_exactly_after_a_checkpoint_with_other_tasks(tmp_path: Path) -> None:
    before = EpisodeAverages(TASKS, window=4)
    before.add(episode(task, 10.0 * task + i) for task in range(3) for i in range(6))
    state = checkpoint.load(checkpoint.save(tmp_path, before.state(), 1, keep=1))
    same = EpisodeAverages(TASKS, window=4)
    same.restore(state)
    for averages in (before, same):
        averages.add([episode(1, 7.0, True)])
    assert same.metrics() == before.metrics()
    other = EpisodeAverages(("atari/new/m0d0", TASKS[1]), window=4)
    other.restore(state)
    row = other.metrics()
    assert row[f"task/{TASKS[1]}/episodes"] == 6
    assert row["agg/tasks_reporting"] == 1


def test_an_episode_of_an_unknown_task_and_an_empty_window_are_refused() -> None:
    with pytest.raises(ValueError, match="task 3, but the tasks are 0 to 2"):
        EpisodeAverages(TASKS, window=2).add([episode(3, 1.0)])
    with pytest.raises(ValueError, match="window 0"):
        EpisodeAverages(TASKS, window=0)


def test_rows_are_on_disk_at_once_and_come_back_as_they_were(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    values = [0.1, -3, "text", math.inf, -math.inf, math.nan]
    sink.write({f"learner/{i}": value for i, value in enumerate(values)})
    sink.append(to_json_line({"env_steps": np.int64(5), "task/ünï/return": np.float32(0.5)}))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text.count("\n") == 2
    assert '"NaN"' in text
    first, second = read_rows(tmp_path / "metrics.jsonl")
    assert list(first.values())[:5] == values[:5]
    assert math.isnan(first["learner/5"])
    assert second == {"env_steps": 5, "task/ünï/return": 0.5}
    sink.close()
    sink.close()


def test_a_resumed_file_keeps_everything_and_a_torn_last_line_stays_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"env_steps": 1}\n{"env_steps": 2, "lear')
    sink = JsonlSink(file)
    sink.write({"env_steps": 3})
    sink.close()
    assert file.read_text().startswith('{"env_steps": 1}\n{"env_steps": 2, "lear\n')
    assert [row["env_steps"] for row in read_rows(file)] == [1, 3]
    assert "1 torn lines left out" in caplog.text
    assert read_rows(tmp_path / "nothing") == []


def test_a_full_disk_is_said_once_and_every_row_is_there_once_there_is_room(
    small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    sink = JsonlSink(small_disk.place / "metrics.jsonl")
    sink.write({"env_steps": 0})
    small_disk.fill(sink.path)
    for step in range(1, 200):
        sink.write({"env_steps": step, "text": "x" * 100})
    assert len(sink.path.read_bytes()) < 10_000
    assert caplog.text.count("cannot write to") == 1
    small_disk.free()
    sink.write({"env_steps": 200})
    sink.close()
    assert [row["env_steps"] for row in read_rows(sink.path)] == list(range(201))
    assert "is written again, 0 rows lost" in caplog.text


def test_a_disk_that_stays_full_costs_bounded_memory(
    small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    sink = JsonlSink(small_disk.place / "metrics.jsonl")
    sink.write({"row": -1})
    small_disk.fill(sink.path)
    with caplog.at_level(logging.ERROR):
        for row in range(10_500):
            sink.write({"row": row})
    small_disk.free()
    sink.write({"row": 10_500})
    sink.close()
    rows = [row["row"] for row in read_rows(sink.path)]
    assert len(rows) + sink.dropped == 10_502
    assert sink.dropped > 0
    assert rows == sorted(set(rows))
    assert rows[-1] == 10_500


class Breaking:
    """A sink that raises in everything it does."""

    def write(self, row: Mapping[str, float | int | str]) -> None:
        raise RuntimeError(f"cannot take {len(row)} values")

    def close(self) -> None:
        raise OSError("cannot close")


def test_a_sink_that_breaks_never_stops_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = JsonlSink(tmp_path / "metrics.jsonl")
    both = FanOut([Breaking(), record])
    for step in range(5):
        both.write({"env_steps": step})
    both.close()
    assert [row["env_steps"] for row in read_rows(record.path)] == list(range(5))
    assert both.failures == [6, 0]
    assert caplog.text.count("Breaking failed") == 1
