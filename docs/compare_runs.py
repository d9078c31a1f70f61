"""Compares groups of runs, a seed each: a picture and a table.

`python docs/compare_runs.py PICTURE.png METRIC LABEL=RUN,RUN,RUN LABEL=RUN,RUN,RUN`; METRIC is
`return` or `success` of greedy evaluations, or `training` for the mean return of training episodes.
Lines are means over seeds, bands 95 % intervals of Student's t.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from scipy import stats

from repertory.metrics.jsonl import read_rows
from repertory.run_directory import RunDirectory

Curves = dict[str, dict[int, list[float]]]
"""By task, by agent steps: one value per run."""
MEAN = "mean over tasks"


def curves_of(runs: list[str], metric: str, points: int = 10) -> Curves:
    """Read what METRIC names; steps are rounded to the same parts of the budget."""
    name_of = "task/{}/return" if metric == "training" else f"eval/greedy/task/{{}}/{metric}"
    curves: Curves = defaultdict(lambda: defaultdict(list))
    for name in runs:
        run = RunDirectory.open(Path(name))
        config, protocol = run.read_config()
        part = config.total_steps // points
        by_step = {}
        for row in read_rows(run.metrics):
            values = [row.get(name_of.format(task)) for task in protocol["tasks"]]
            if all(isinstance(value, float) for value in values):
                by_step[round(int(row["env_steps"]) / part) * part] = np.array(values)
        for step, values in by_step.items():
            for task, value in zip(protocol["tasks"], values, strict=True):
                curves[task][step].append(float(value))
            curves[MEAN][step].append(float(values.mean()))
    return curves


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), float("nan")
    error = float(np.std(values, ddof=1) / np.sqrt(count))
    return float(np.mean(values)), error * float(stats.t.ppf(0.975, count - 1))


def main(picture: str, metric: str, groups: dict[str, list[str]]) -> None:
    """Draw the picture and print the table of the last evaluations."""
    curves = {label: curves_of(runs, metric) for label, runs in groups.items()}
    tasks = list(next(iter(curves.values())))
    tasks = [MEAN, *(task for task in tasks if task != MEAN)]
    mpl.use("Agg")
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(3.4 * columns, 2.5 * lines), layout="constrained", squeeze=False
    )
    for axes, task in zip(grid.flat, tasks, strict=False):
        for label, of_label in curves.items():
            steps = sorted(of_label[task])
            table = np.array([interval(of_label[task][step]) for step in steps])
            axes.plot(steps, table[:, 0], label=label)
            axes.fill_between(
                steps, table[:, 0] - table[:, 1], table[:, 0] + table[:, 1], alpha=0.2
            )
        axes.set_title(task, fontsize=9)
        if metric == "success":
            axes.set_ylim(-0.05, 1.05)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
        axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    for axes in list(grid.flat)[len(tasks) :]:
        axes.axis("off")
    grid[0, 0].legend(frameon=False, fontsize=8)
    grid[-1, 0].set_xlabel("agent steps, all tasks", fontsize=8)
    measured = "return in training" if metric == "training" else f"greedy {metric}"
    grid[0, 0].set_ylabel(measured, fontsize=8)
    figure.savefig(picture, dpi=120)

    print("| task | " + " | ".join(curves) + " |")
    print("| --- |" + " --- |" * len(curves))
    for task in [*tasks[1:], MEAN]:
        cells = []
        for of_label in curves.values():
            middle, half = interval(of_label[task][max(of_label[task])])
            digits = 2 if metric == "success" else 0 if middle >= 1000 else 1
            cells.append(f"{middle:,.{digits}f} ± {half:,.{digits}f}")
        print(f"| {task} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        {
            label: runs.split(",")
            for label, _, runs in (argument.partition("=") for argument in sys.argv[3:])
        },
    )
