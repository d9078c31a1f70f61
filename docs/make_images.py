"""Draws the README's pictures from a finished run: `python docs/make_images.py RUN_DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from repertory.metrics.jsonl import read_rows
from repertory.metrics.terminal import render_svg
from repertory.run_directory import RunDirectory

IMAGES = Path(__file__).parent / "images"


def main(run_directory: str) -> None:
    """Write the terminal view at three quarters of the run, and the returns per task over steps."""
    run = RunDirectory.open(Path(run_directory))
    config, protocol = run.read_config()
    rows = [row for row in read_rows(run.metrics) if "learner/entropy" in row]
    tasks = protocol["tasks"]
    shown = rows[: 3 * len(rows) // 4]
    svg = render_svg(
        shown, tasks=tasks, total_steps=config.total_steps, title=f"repertory train {config.recipe}"
    )
    (IMAGES / f"{config.recipe}.svg").write_text(svg)

    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for task in tasks:
        points = [
            (row["env_steps"], row[f"task/{task}/return"])
            for row in rows
            if f"task/{task}/return" in row
        ]
        axes.plot(*zip(*points, strict=True), label=task)
    axes.set_xlabel("agent steps, all tasks together")
    axes.set_ylabel("return, mean of the last 100 episodes")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(IMAGES / f"{config.recipe}-returns.png", dpi=120)


if __name__ == "__main__":
    main(sys.argv[1])
