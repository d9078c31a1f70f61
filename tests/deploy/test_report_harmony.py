"""What a report shows of gradients and masks: each network's curves, harmony beside its null."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reported_runs import made_up_rows, reported_run

from deploy.report.figures import Figure
from deploy.report.grouping import grouped
from deploy.report.harmony import harmony
from deploy.report.page import render
from deploy.report.runs import Group, read


def group_of(root: Path, endings: Sequence[str], *, flips: float = 3.0) -> list[Group]:
    """Return a group of two seeds that measured gradients and masks in every other row."""
    runs = []
    for seed in (1, 2):
        rows = made_up_rows(seed)
        for number, row in enumerate(rows[::2]):
            for ending in endings:
                row[f"learner/gradient_cosine_mean{ending}"] = 0.1 * seed
                row[f"learner/harmony{ending}"] = 0.3 + 0.01 * number
                row[f"learner/harmony_null{ending}"] = 0.2
                row[f"learner/harmony_others{ending}"] = -0.05
                row[f"learner/mask_overlap{ending}"] = 0.11
                row[f"learner/mask_flips{ending}"] = flips
        runs.append(read(reported_run(root, f"run-{seed}", seed=seed, rows=rows).path))
    return grouped(runs)


def by_name(figures: Sequence[Figure]) -> dict[str, Figure]:
    return {figure.full_name: figure for figure in figures}


def test_every_network_has_its_curves_and_harmony_the_null_beside_it(tmp_path: Path) -> None:
    shown = by_name(harmony(group_of(tmp_path, ("_actor", "_critic"))))
    titles = (
        "Gradient cosine",
        "Harmony",
        "Harmony with the others",
        "Mask overlap",
        "Mask flips",
    )
    assert list(shown) == [f"{title}, {part}" for title in titles for part in ("actor", "critics")]
    (last, null) = shown["Harmony, critics"].readings
    assert last.text.startswith("0.34")
    assert not last.level
    assert null.level
    assert null.text.startswith("if independent 0.2")
    assert 'class="line level' in str(shown["Harmony, actor"].picture)
    (cosine,) = shown["Gradient cosine, actor"].readings
    assert cosine.text.startswith("0.15")


def test_an_actor_critic_network_has_one_of_each_and_fixed_masks_no_flips(tmp_path: Path) -> None:
    shown = by_name(harmony(group_of(tmp_path, ("",), flips=0.0)))
    assert list(shown) == ["Gradient cosine", "Harmony", "Harmony with the others", "Mask overlap"]


def test_the_page_has_a_section_of_it_only_where_something_was_measured(tmp_path: Path) -> None:
    measured = render(group_of(tmp_path, ("_actor",)), [], tmp_path / "report.html")
    assert "How tasks get along" in measured
    assert "if independent 0.2" in measured
    plain = grouped([read(reported_run(tmp_path, "plain").path)])
    assert harmony(plain) == []
    assert "How tasks get along" not in render(plain, [], tmp_path / "report.html")
