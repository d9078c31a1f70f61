"""The jobs of a study, each one command line of `repertory` and, but for evaluations, one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from repertory.recipes.studies import Study

Kind = Literal["pretrain", "zero-shot", "finetune", "scratch"]
PLACE = "{dir}"
"""Stands for the study's directory in a job's words, so that the directory can be moved."""


@dataclass(frozen=True, slots=True)
class Job:
    """One command, and what must be done before it."""

    name: str
    kind: Kind
    run: str
    """Directory of the run that it makes or evaluates, within the study's."""
    words: tuple[str, ...]
    """The command line that begins it."""
    needs: tuple[str, ...]
    variants: int
    """How many variants the agent was pre-trained on; 0 from scratch."""
    seed: int
    scored: tuple[str, ...]
    """Held-out tasks that the run must have been evaluated on in the end."""

    def command(self, directory: Path, *, begun: bool, trained: bool) -> list[str]:
        """Return the command line of what is left to do."""
        if self.kind == "zero-shot" or not trained:
            resumed = ("train", "--resume", "auto", "--runs_dir", PLACE, "--name", self.run)
            again = begun and self.kind in ("finetune", "scratch")
            words = resumed if again else self.words
        else:
            words = ("evaluate", f"{PLACE}/{self.run}", "--task", *self.scored)
        return [word.replace(PLACE, str(directory)) for word in words]


def jobs_of(study: Study, seeds: int) -> tuple[Job, ...]:
    """Return all jobs, in an order in which none comes before what it needs."""
    jobs: list[Job] = []
    for seed in range(1, seeds + 1):
        pretrained = [_pretraining(study, tasks, seed) for tasks in study.pretraining]
        jobs += pretrained
        jobs += [_zero_shot(study, job) for job in pretrained]
        for task in study.held_out:
            jobs += [_finetuning(study, job, task) for job in pretrained]
            jobs.append(_scratch(study, pretrained[0], task))
    return tuple(jobs)


def _pretraining(study: Study, tasks: tuple[str, ...], seed: int) -> Job:
    name = f"pretrain-{len(tasks)}-seed{seed}"
    words = (
        *("train", study.recipe, "--resume", "auto", "--runs_dir", PLACE, "--name", name),
        *("--tasks", *tasks, "--held_out", *study.held_out),
        *("--total_steps", str(study.pretraining_steps), "--seed", str(seed), *study.settings),
    )
    return Job(name, "pretrain", name, words, (), len(tasks), seed, ())


def _zero_shot(study: Study, parent: Job) -> Job:
    words = ("evaluate", f"{PLACE}/{parent.run}", "--task", *study.held_out, "--policy")
    return Job(
        name=f"zero-shot-{parent.variants}-seed{parent.seed}",
        kind="zero-shot",
        run=parent.run,
        words=(*words, "greedy", "sampled"),
        needs=(parent.name,),
        variants=parent.variants,
        seed=parent.seed,
        scored=study.held_out,
    )


def _finetuning(study: Study, parent: Job, task: str) -> Job:
    name = f"finetune-{parent.variants}-{_slug(task)}-seed{parent.seed}"
    words = (*_on(study, parent, task, name), "--reuse", study.reuse)
    return Job(name, "finetune", name, words, (parent.name,), parent.variants, parent.seed, (task,))


def _scratch(study: Study, parent: Job, task: str) -> Job:
    """The baseline: any pre-trained run's settings are the same, and only they are read."""
    name = f"scratch-{_slug(task)}-seed{parent.seed}"
    words = (*_on(study, parent, task, name), "--from_scratch")
    return Job(name, "scratch", name, words, (parent.name,), 0, parent.seed, (task,))


def _on(study: Study, parent: Job, task: str, name: str) -> tuple[str, ...]:
    return (
        *("finetune", f"{PLACE}/{parent.run}", "--task", task),
        *("--runs_dir", PLACE, "--name", name),
        *("--total_steps", str(study.finetuning_steps), "--seed", str(parent.seed)),
    )


def _slug(task: str) -> str:
    return "-".join(task.split("/")[1:])
