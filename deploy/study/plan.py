"""The jobs of a study, each one command line of `repertory` and one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.overrides import Texts, resolve, scan
from deploy.schema import settings_of
from repertory.config import RunConfig
from repertory.errors import BadInput
from repertory.recipes import get
from repertory.recipes.studies import Study

Kind = Literal["pretrain", "finetune", "scratch"]
PLACE = "{dir}"
"""Stands for the study's directory in a job's words, so that the directory can be moved."""
# What tells the jobs of a study apart, and what their commands set.
_OF_THE_STUDY = ("recipe", "seed", "tasks", "held_out", "total_steps", "address")


@dataclass(frozen=True, slots=True)
class Job:
    """One command, and what must be done before it."""

    name: str
    """Of the job, and of its run's directory within the study's."""
    kind: Kind
    words: tuple[str, ...]
    """The command line that begins it."""
    needs: tuple[str, ...]
    variants: int
    """How many variants the agent was pre-trained on; 0 from scratch."""
    seed: int
    steps: int
    """Agent steps of its training."""
    scored: tuple[str, ...]
    """Tasks that the run must have been evaluated on after its last step."""

    def command(self, directory: Path, *, begun: bool, trained: bool) -> list[str]:
        """Return the command line of what is left to do."""
        words = self.words
        if trained:
            words = ("evaluate", f"{PLACE}/{self.name}", "--task", *self.scored)
        elif begun and self.kind != "pretrain":
            words = ("train", "--resume", "auto", "--runs_dir", PLACE, "--name", self.name)
        return [word.replace(PLACE, str(directory)) for word in words]


def settings_from(words: tuple[str, ...]) -> Texts:
    """Return settings of all runs from their flags, in the order of their names.

    Raises:
        BadInput: there is no such setting, or the study sets it itself.
    """
    texts, rest = scan(words, settings_of(RunConfig))
    if rest:
        raise BadInput(f"unexpected '{rest[0]}': settings are flags, such as --actors.lanes 8")
    for path in texts:
        if path in _OF_THE_STUDY or path.startswith("initial."):
            raise BadInput(
                f"{path} is chosen by the study for each of its runs: leave it out, or write a "
                "study of your own (docs/studies.md)"
            )
    return dict(sorted(texts.items()))


def canonical(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return flags of settings in one order and form, so that they can be compared."""
    return _flags(settings_from(words))


def jobs_of(study: Study, seeds: int, given: tuple[str, ...] = ()) -> tuple[Job, ...]:
    """Return all jobs, in an order in which none comes before what it needs.

    Args:
        study: what is to be run.
        seeds: how often.
        given: flags of every run, over the study's own.

    Raises:
        BadInput: `given` has what no run has, or what the study chooses.
    """
    settings = settings_from(given)
    jobs: list[Job] = []
    for seed in range(1, seeds + 1):
        pretrained = [_pretraining(study, tasks, seed, settings) for tasks in study.pretraining]
        jobs += pretrained
        for task in study.held_out:
            jobs += [_finetuning(study, job, task, settings) for job in pretrained]
            jobs.append(_scratch(study, pretrained[0], task, settings))
    return tuple(jobs)


def pretraining_configs(study: Study, given: tuple[str, ...] = ()) -> list[RunConfig]:
    """Return what the agents are pre-trained with. The other runs have one task, and all else
    alike.

    Raises:
        BadInput: settings that cannot be.
    """
    settings = settings_from(given)
    return [
        resolve(get(study.recipe).config, (), _pretraining_settings(study, tasks, 1, settings))
        for tasks in study.pretraining
    ]


def _pretraining(study: Study, tasks: tuple[str, ...], seed: int, given: Texts) -> Job:
    name = f"pretrain-{len(tasks)}-seed{seed}"
    return Job(
        name=name,
        kind="pretrain",
        words=(
            *("train", study.recipe, "--resume", "auto", "--runs_dir", PLACE, "--name", name),
            *_flags(_pretraining_settings(study, tasks, seed, given)),
        ),
        needs=(),
        variants=len(tasks),
        seed=seed,
        steps=study.pretraining_steps,
        scored=(*tasks, *study.held_out),
    )


def _pretraining_settings(study: Study, tasks: tuple[str, ...], seed: int, given: Texts) -> Texts:
    own, _ = scan(study.settings, settings_of(RunConfig))
    return {
        "tasks": tasks,
        "held_out": study.held_out,
        "total_steps": (str(study.pretraining_steps),),
        "seed": (str(seed),),
        "evaluation.held_out": ("true",),
        "evaluation.every_steps": (_every(study, study.pretraining_steps),),
        "evaluation.interim_episodes": (str(study.interim_episodes),),
        "evaluation.interim_policies": (study.policy,),
        **own,
        **given,
    }


def _finetuning(study: Study, parent: Job, task: str, given: Texts) -> Job:
    name = f"finetune-{parent.variants}-{_slug(task)}-seed{parent.seed}"
    words = (*_on(study, parent, task, name, given), "--reuse", study.reuse)
    return Job(
        name=name,
        kind="finetune",
        words=words,
        needs=(parent.name,),
        variants=parent.variants,
        seed=parent.seed,
        steps=study.finetuning_steps,
        scored=(task,),
    )


def _scratch(study: Study, parent: Job, task: str, given: Texts) -> Job:
    """The baseline: any pre-trained run's settings are the same, and only they are read."""
    name = f"scratch-{_slug(task)}-seed{parent.seed}"
    words = (*_on(study, parent, task, name, given), "--from_scratch")
    return Job(
        name=name,
        kind="scratch",
        words=words,
        needs=(parent.name,),
        variants=0,
        seed=parent.seed,
        steps=study.finetuning_steps,
        scored=(task,),
    )


def _on(study: Study, parent: Job, task: str, name: str, given: Texts) -> tuple[str, ...]:
    # All other settings are the parent's.
    settings: Texts = {
        "total_steps": (str(study.finetuning_steps),),
        "seed": (str(parent.seed),),
        "evaluation.every_steps": (_every(study, study.finetuning_steps),),
    }
    settings |= {path: values for path, values in given.items() if path in settings}
    return (
        *("finetune", f"{PLACE}/{parent.name}", "--task", task),
        *("--runs_dir", PLACE, "--name", name),
        *_flags(settings),
    )


def _every(study: Study, steps: int) -> str:
    """Return the steps between evaluations, the last of which is the one that ends the run."""
    return str(-(-steps // (study.evaluations + 1)) if study.evaluations else 0)


def _flags(settings: Texts) -> tuple[str, ...]:
    words: list[str] = []
    for path, values in settings.items():
        # An empty list has a form of its own.
        words += [f"--{path}", *values] if values else [f"--{path}="]
    return tuple(words)


def _slug(task: str) -> str:
    return "-".join(task.split("/")[1:])
