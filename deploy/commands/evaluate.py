"""`repertory evaluate RUN_DIR`: whole episodes with a run's weights, on trained or unseen tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from deploy.commands import Page, parse
from deploy.terminal_warnings import warnings_shown
from repertory.config import Settings
from repertory.errors import BadInput

if TYPE_CHECKING:
    from rich.table import Table

    from actors.evaluator import TaskScore

USAGE = "repertory evaluate RUN_DIR [--task T ...] [options]"


class Options(Settings):
    """What to play, and how."""

    run_dir: Path
    """Directory of the run, or of an exported agent."""
    task: tuple[str, ...] = ()
    """Tasks and suites to play, trained on or not; without it, the run's training tasks."""
    held_out: bool = False
    """Play the run's held-out tasks too (zero-shot)."""
    episodes: Annotated[int, Field(gt=0)] | None = None
    """Episodes per task and policy; without it, the run's evaluation.episodes."""
    policy: tuple[Literal["greedy", "sampled", "random"], ...] = ("greedy",)
    """greedy: the likeliest action; sampled: as in training; random: the floor to compare with."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the episodes; without it, the run's evaluation.seed, so that results compare."""
    checkpoint: Path | None = None
    """A folder under checkpoints/; without it, the newest good one."""


def page() -> Page:
    """Return the help."""
    return Page(USAGE, "Play whole episodes and report raw returns per task.", (Options,))


def run(tokens: Sequence[str]) -> int:
    """Evaluate, print a table, and say where the JSON went."""
    chosen = parse(Options, tokens, USAGE, ["run_dir"])
    if len(set(chosen.policy)) < len(chosen.policy) or not chosen.policy:
        raise BadInput(f"policy: name each policy once, got {' '.join(chosen.policy) or 'none'}")
    from deploy.export.folder import open_agent
    from envs.registry import held_out_tasks, resolve, training_tasks

    directory = open_agent(chosen.run_dir)
    config, _ = directory.read_config()
    names = list(resolve(chosen.task, config.environment)) if chosen.task else []
    if not names and not chosen.held_out:
        names = list(training_tasks(config))
    if chosen.held_out:
        names += [name for name in held_out_tasks(config) if name not in names]
    if not names:
        raise BadInput(f"{chosen.run_dir} holds no task out: name tasks with --task")
    if chosen.checkpoint is not None and not chosen.checkpoint.is_dir():
        raise BadInput(f"there is no checkpoint {chosen.checkpoint}")
    from deploy.evaluation import evaluate
    from deploy.table_console import table_console

    with warnings_shown():
        scores, path = evaluate(
            config,
            directory,
            names,
            episodes=chosen.episodes or config.evaluation.episodes,
            policies=chosen.policy,
            seed=config.evaluation.seed if chosen.seed is None else chosen.seed,
            checkpoint_path=chosen.checkpoint,
        )
    trained, before = set(training_tasks(config)), set(config.initial.trained_before)
    table_console().print(score_table(scores, trained, before))
    print(f"written to {path}")
    return 0


def score_table(
    scores: Sequence[TaskScore], trained: Collection[str], before: Collection[str] = ()
) -> Table:
    """Return one row per task: under each policy the mean raw return, its standard error,
    and the share of successes where the tasks know any.

    Args:
        scores: what was played.
        trained: the run's own tasks.
        before: those that the weights which it began with were trained on.
    """
    from rich.table import Table

    from deploy.table_console import longest_word

    judged = any(score.successes for score in scores)
    policies = list(dict.fromkeys(score.policy for score in scores))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task", no_wrap=True)
    # Folded where a terminal is narrow, between words; cut, a number could be read as another.
    told = {score.task: _told(score.task, trained, before) for score in scores}
    table.add_column("", min_width=longest_word(*told.values()))
    for policy in policies:
        title = f"{policy} return"
        table.add_column(title, justify="right", min_width=longest_word(title))
        if judged:
            table.add_column("success", justify="right", no_wrap=True)
    table.add_column("episodes", justify="right", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    by_task: dict[str, dict[str, TaskScore]] = {}
    for score in scores:
        by_task.setdefault(score.task, {})[score.policy] = score
    for task, by_policy in by_task.items():
        any_score = next(iter(by_policy.values()))
        lengths = [length for score in by_policy.values() for length in score.lengths]
        cut = sum(score.cut for score in by_policy.values())
        table.add_row(
            task,
            told[task],
            *(
                text
                for policy in policies
                for text in _shown(by_policy.get(policy))[: 2 if judged else 1]
            ),
            str(len(any_score.returns)) + (f" ({cut} cut)" if cut else ""),
            f"{sum(lengths) / len(lengths):,.0f}",
        )
    return table


def _told(task: str, trained: Collection[str], before: Collection[str]) -> str:
    """Return what is said of a task that the run does not train on."""
    if task in trained:
        return ""
    return "trained before" if task in before else "unseen"


def _shown(score: TaskScore | None) -> tuple[str, str]:
    """Return a score's return and success as text."""
    if score is None:
        return "-", "-"
    error = f" ± {score.standard_error:.1f}" if len(score.returns) > 1 else ""
    share = f"{sum(score.successes) / len(score.successes):.0%}" if score.successes else "-"
    return f"{score.mean:,.1f}{error}", share
