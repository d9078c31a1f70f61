"""Puts a report together: one HTML file with its style, its pictures and nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
from markupsafe import Markup

from deploy.report import (
    charts,
    comparisons,
    figures,
    harmony,
    health,
    maps,
    repeating,
    scales,
    score_figures,
    score_tables,
    tables,
)
from deploy.report.grouping import differing
from deploy.report.runs import Group, ReportedRun
from deploy.report.task_names import natural, short_names
from repertory import __version__
from repertory.durable_files import write_atomically

log = logging.getLogger(__name__)

_ASSETS = Path(__file__).with_name("assets")
_SEED = 2021
"""Of the bootstrap: the same runs give the same page."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A map as it is shown."""

    caption: str
    picture: Markup


@dataclass(frozen=True, slots=True)
class GroupMaps:
    """Maps of one group, with what their numbers stand for."""

    title: str
    group: int
    names: Sequence[str]
    maps: Sequence[Drawn]
    strongest: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """What is shown of groups on the tasks they share."""

    aggregates: tables.Table
    course: figures.Figure | None
    profile: figures.Figure
    improvements: tables.Table | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What is shown of scores of one meaning."""

    per_task: tables.Table | None
    scales: Sequence[Scored]


def render(groups: Sequence[Group], references: Sequence[ReportedRun], out: Path) -> str:
    """Return the page; links to videos are relative to where `out` will be."""
    runs = [run for group in groups for run in group.runs]
    places = {run.path.resolve() for run in runs}
    policy = comparisons.main_policy([*runs, *references])
    trained = list(dict.fromkeys(task for group in groups for task in group.tasks))
    trained.sort(key=natural)
    evaluated = list(dict.fromkeys(one.task for run in runs for one in run.evaluations))
    evaluated.sort(key=natural)
    remarks = scales.remarks(groups, references, policy)
    for remark in remarks:
        log.warning("%s", remark)
    serious, versions = comparisons.differences(groups, references)
    panels = figures.panels(groups, trained, policy)
    unseen = figures.zero_shot_panels(groups, policy)
    script = (_ASSETS / "page.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.jinja").render(
        title=_title(groups),
        written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        version=__version__,
        style=Markup((_ASSETS / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        groups=groups,
        style_of=charts.style_of,
        many=len(trained) > figures.MANY_TASKS,
        overview=tables.overview(groups, policy),
        serious=serious,
        versions=versions,
        torn=[(run.name, run.metrics.torn) for run in runs if run.metrics.torn],
        empty=[run.name for run in runs if not run.metrics.rows and not run.exported],
        exported=[run.name for run in runs if run.exported],
        panels=panels,
        unseen=unseen,
        levels=any(r.level for p in panels for f in p.figures for r in f.readings),
        measured=_measured(groups, references, policy),
        remarks=remarks,
        evaluation=tables.evaluation(groups, evaluated, policy, history="trained"),
        before=tables.evaluation(groups, evaluated, policy, history="before"),
        zero_shot=tables.evaluation(groups, evaluated, policy, history="never"),
        fine_tuning=tables.fine_tuning(groups, policy),
        cut=tables.cut_episodes(groups),
        guides=[drawn for group in groups for drawn in _guides(group)],
        cosines=[drawn for group in groups for drawn in _cosines(group)],
        along=harmony.harmony(groups),
        health=health.health(groups),
        videos=[
            (name, [(label, quote(path.as_posix())) for label, path in links])
            for name, links in figures.videos(runs, out.parent)
        ],
        settings=_settings(groups),
        facts=_facts(groups),
        commands=[
            (run.name, [repeating.command(run), *repeating.evaluations(run)])
            for run in [*runs, *(one for one in references if one.path.resolve() not in places)]
        ],
        report_command=repeating.report_command(runs, references, out),
    )


def _measured(
    groups: Sequence[Group], references: Sequence[ReportedRun], policy: str
) -> list[Measured]:
    generator = np.random.default_rng(_SEED)
    return [
        Measured(
            score_tables.per_task(measure, groups, policy),
            [
                Scored(
                    score_tables.aggregates(scale, groups, generator),
                    score_figures.interquartile_means(scale, groups, policy, generator),
                    score_figures.profile(scale, generator),
                    score_tables.improvements(scale, groups, generator),
                )
                for scale in found
            ],
        )
        for measure in scales.measures(groups, references, policy)
        if (found := scales.scales(groups, measure, policy))
    ]


def write(out: Path, text: str) -> None:
    """Write the page whole or not at all."""
    write_atomically(out, text)


def _title(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    if len(runs) == 1:
        return runs[0].name
    recipes = list(dict.fromkeys(run.recipe for run in runs))
    shown = ", ".join(recipes[:3]) + (" and more" if len(recipes) > 3 else "")
    return f"{shown}: {len(runs)} runs"


def _guides(group: Group) -> list[GroupMaps]:
    taken = maps.guide_maps(group)
    if not taken:
        return []
    short = short_names(taken[0].columns)
    drawn = [
        Drawn(one.caption, maps.draw(one, f"whose policy acted, {group.label}, {one.caption}"))
        for one in taken
    ]
    strongest = [
        (short[task], short[guide], f"{100 * share:.0f} %")
        for task, guide, share in maps.strongest_guides(taken[-1])
    ]
    return [GroupMaps(group.label, group.index, list(short.values()), drawn, strongest)]


def _cosines(group: Group) -> list[GroupMaps]:
    found = []
    for network, taken in maps.cosine_maps(group).items():
        short = short_names(taken[0].columns)
        drawn = [
            Drawn(one.caption, maps.draw(one, f"gradient cosines, {network}, {one.caption}"))
            for one in taken
        ]
        title = f"{group.label}: {network}"
        found.append(GroupMaps(title, group.index, list(short.values()), drawn))
    return found


def _settings(groups: Sequence[Group]) -> list[tuple[str, bool, list[str]]]:
    """Return (path, whether groups differ in it, each group's value) of every setting."""
    firsts = [group.runs[0].settings for group in groups]
    unlike = set(differing(firsts)) - {"seed"}
    paths = dict.fromkeys(path for settings in firsts for path in settings if path != "seed")
    rows = [(p, p in unlike, [_told(settings.get(p)) for settings in firsts]) for p in paths]
    return sorted(rows, key=lambda row: not row[1])


def _facts(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Return what all runs share of their protocol, for a reader who wants to compare."""
    first = groups[0].runs[0]
    facts = [(f"environment: {name}", _told(value)) for name, value in _environment(first)]
    facts += [
        (name, _told(value)) for name, value in first.protocol.get("versions", {}).items() if value
    ]
    return [*facts, ("commit", _told(first.protocol.get("commit")))]


def _environment(run: ReportedRun) -> list[tuple[str, Any]]:
    return list(dict(run.protocol.get("environment", {})).items())


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not known" if value is None else "(empty)" if value == "" else str(value)
