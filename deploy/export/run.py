"""From a run's directory to an exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from deploy import build
from deploy.export.arrays import named_arrays
from deploy.export.card import model_card
from deploy.export.folder import write
from deploy.export.scores import card_scores
from deploy.saved_agent import saved_agent
from repertory.run_directory import FORMAT, RunDirectory


class Exported(NamedTuple):
    """What an export came to."""

    checkpoint: str
    arrays: int
    megabytes: float
    tasks: int
    scored: int
    """Tasks that the run has scores of."""


def export(run: RunDirectory, path: Path, checkpoint: Path | None = None) -> Exported:
    """Write the agent of a checkpoint, by default the newest good one, to a new folder `path`.

    Raises:
        BadInput: there is no such checkpoint, or there is something at `path`.
    """
    config, protocol = run.read_config()
    agent = saved_agent(run, checkpoint, with_critic=True)
    arrays, about = named_arrays(config, agent)
    specs = build.tasks_of(config)
    tasks = [task.name for task in specs]
    scores = card_scores(run, agent.env_steps)
    card = model_card(
        config,
        protocol,
        name=run.name,
        tasks=tasks,
        env_steps=agent.env_steps,
        frames_per_step=specs[0].frames_per_step,
        checkpoint=agent.source,
        scores=scores,
        arrays=arrays,
    )
    settings = {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "protocol": protocol,
        "export": {"run": run.name, **about},
    }
    write(path, arrays, settings, card)
    size = sum(array.nbytes for array in arrays.values())
    scored = sum(task in scores for task in tasks)
    return Exported(agent.source, len(arrays), size / 1e6, len(tasks), scored)
