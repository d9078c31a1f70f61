"""The site builds without a warning, without a network, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pymdownx.superfences import SuperFencesException

from docs.equations import formula

HOME = Path(__file__).resolve().parents[2]
PACKAGES = ("repertory", "envs", "actors", "replay", "learner", "deploy")


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a folder strictly, with every proxy pointing nowhere."""
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy")}
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=str(folder), **nowhere),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("documentation")
    shutil.copy(HOME / "mkdocs.yml", folder)
    shutil.copytree(HOME / "docs", folder / "docs")
    for package in PACKAGES:
        (folder / package).symlink_to(HOME / package)
    done = build(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "site"


class Loaded(HTMLParser):
    """Collects what a page makes a browser fetch, links to click left aside."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address of an image, script, style sheet or frame."""
        if tag != "a":
            named = [value for name, value in attrs if name in ("src", "href", "data") and value]
            self.addresses += named


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    pages = {path.relative_to(HOME / "docs") for path in (HOME / "docs").rglob("*.md")}
    assert len(pages) > 30
    listed = set(re.findall(r"[\w/-]+\.md", (HOME / "mkdocs.yml").read_text()))
    assert {str(page) for page in pages} == listed
    for page in pages:
        assert (site / page).with_suffix(".html").is_file(), page


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses, page
        for address in loaded.addresses:
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"


def test_the_reference_is_made_of_docstrings(site: Path) -> None:
    losses = (site / "reference" / "losses.html").read_text(encoding="utf-8")
    assert 'id="learner.losses.vtrace.vtrace"' in losses
    assert "A step that is not valid (the one that resets) has no temporal difference" in losses
    settings = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    assert 'id="repertory.config.records.EvaluationConfig.max_steps"' in settings


def test_every_module_has_a_place_in_the_reference(site: Path) -> None:
    pages = "\n".join(page.read_text() for page in (site / "reference").glob("*.html"))
    there = set(re.findall(r'<h\d id="([\w.]+)"', pages))
    modules = {
        ".".join(file.relative_to(HOME).with_suffix("").parts)
        for package in PACKAGES
        for file in (HOME / package).rglob("*.py")
        if not file.name.startswith("_")
    }
    assert len(modules) > 150
    assert sorted(modules - there) == []


def test_formulas_are_drawn_without_a_script(site: Path) -> None:
    page = (site / "algorithms" / "on-policy.html").read_text(encoding="utf-8")
    assert page.count("<math ") > 5
    assert formula(r"a_1 \\ \frac{b}{c}").count("<math ") == 2
    for wrong in (r"\nosuch{a}", r"\frac{a}{"):
        with pytest.raises(SuperFencesException, match="in the formula"):
            formula(wrong)


def test_the_readmes_links_and_pictures_are_there() -> None:
    targets = re.findall(r"\]\(([^)#:]+)[^):]*\)", (HOME / "README.md").read_text("utf-8"))
    assert len(targets) > 15
    assert [target for target in targets if not (HOME / target).exists()] == []


SMALL = """
site_name: small
markdown_extensions:
  - pymdownx.superfences:
      custom_fences: [{name: math, class: math, format: docs.equations.formula}]
"""


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("[there](there.md#now)", "[here](#here)"),
        ("```math\n\\nosuch{a}\n```", "```math\n\\frac{a}{b}\n```"),
    ],
)
def test_a_dead_link_or_a_formula_that_cannot_be_drawn_stops_the_build(
    tmp_path: Path, wrong: str, right: str
) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copy(HOME / "docs" / "equations.py", tmp_path / "docs")
    (tmp_path / "mkdocs.yml").write_text(SMALL)
    page = tmp_path / "docs" / "index.md"
    page.write_text(f"# Here\n\n{wrong}\n")
    assert build(tmp_path).returncode != 0
    page.write_text(f"# Here\n\n{right}\n")
    assert build(tmp_path).returncode == 0
