"""The page of `repertory report`: whole, escaped, from one file, with the numbers of the runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reported_runs import TASKS, evaluated, made_up_rows, reported_run
from small_runs import counting_config, new_run

from deploy import local

EVIL = 'counting/<script>alert(\'&"1")</script>'
_VOID = {"meta", "input", "br"}


class Reader(HTMLParser):
    """Checks that elements are closed in order, and keeps their attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.text.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_the_page_holds_the_numbers_of_the_runs(command, tmp_path):
    for seed, value in ((1, 20.0), (2, 24.0), (3, 28.0)):
        run = reported_run(tmp_path / "runs", f"run{seed}", seed=seed, held_out=["counting/7"])
        evaluated(run, {key: [value, value] for key in TASKS})
        evaluated(run, {"counting/7": [7.5]}, trained_on=False)
    outcome = command("report", "runs")
    assert outcome.code == 0
    assert outcome.files == [str(tmp_path / "runs" / "report.html")]
    assert outcome.out.startswith("runs/report.html: 3 runs in 1 group, 0.")
    page = Reader((tmp_path / "runs" / "report.html").read_text())
    # Last training return of task 0: 1 + 10, 2 + 10, 3 + 10.
    for words in (
        "made-up: 3 runs",
        "3 (1, 2, 3)",
        "12.00 ± 2.48",
        "24.00 ± 9.94",
        "Zero-shot: tasks that were never trained on",
        "7.50",
        "repertory report runs/run1 runs/run2 runs/run3",
        "commit 0123abc",
    ):
        assert words in page.words, words
    assert "not taken under one protocol" not in page.words


def test_nothing_is_loaded_from_elsewhere_and_only_the_pages_own_script_may_run(command, tmp_path):
    run = reported_run(tmp_path, "run")
    (run.videos / "step 1#?.mp4").write_bytes(b"")
    assert command("report", "run").code == 0
    text = (tmp_path / "run" / "report.html").read_text()
    page = Reader(text)
    assert "http:" not in text.lower()
    assert "https:" not in text.lower()
    assert "@import" not in text
    assert "url(" not in text
    assert not any("src" in attributes or tag == "link" for tag, attributes in page.elements)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy
    assert [a["href"] for tag, a in page.elements if tag == "a"] == ["videos/step%201%23%3F.mp4"]


def test_names_and_values_cannot_become_markup(command, tmp_path):
    tasks = [EVIL, "counting/b"]
    rows = made_up_rows(1, tasks)
    run = reported_run(
        tmp_path,
        "run",
        recipe="<img src=x onerror=alert(2)>",
        rows=rows,
        protocol={"tasks": tasks, "commit": "<b>bold</b>", "held_out": ["</script><i>"]},
        logging={"wandb_project": '"><script>alert(3)</script>'},
    )
    evaluated(run, {EVIL: [1.0]}, policy="<u>")
    second = reported_run(
        tmp_path, "second", recipe="<s>", protocol={"environment": {"<q>": "<q>"}}
    )
    evaluated(second, {EVIL: [2.0]}, policy="<u>")
    assert command("report", "run", "second", "--out", "page.html").code == 0
    page = Reader((tmp_path / "page.html").read_text())
    assert page.count("script") == 1
    assert not {tag for tag, _ in page.elements} & {"img", "u", "s", "q"}
    assert not any(name.startswith("on") for _, a in page.elements for name in a)
    assert EVIL.removeprefix("counting/") in page.words
    assert any(a.get("data-name") == EVIL for _, a in page.elements)
    assert "<img src=x onerror=alert(2)>" in page.words


def test_runs_of_different_protocols_are_reported_with_a_warning(command, tmp_path):
    reported_run(tmp_path, "a", recipe="a")
    reported_run(tmp_path, "b", recipe="b", evaluation={"episodes": 3})
    assert command("report", "a", "b").code == 0
    page = Reader((tmp_path / "report.html").read_text())
    assert "These runs were not taken under one protocol" in page.words
    assert "evaluation.episodes : 5 (a), 3 (b)" in page.words


@pytest.mark.parametrize(("tasks", "small"), [(1, False), (10, False), (50, True)])
def test_a_page_of_any_number_of_tasks_has_a_picture_for_each(command, tmp_path, tasks, small):
    names = [f"counting/t{index}" for index in range(tasks)]
    for seed in (1, 2, 3):
        reported_run(tmp_path / "runs", f"run{seed}", seed=seed, tasks=names)
    assert command("report", "runs").code == 0
    text = (tmp_path / "runs" / "report.html").read_text()
    page = Reader(text)
    figures = [a["data-name"] for tag, a in page.elements if tag == "figure" and "data-name" in a]
    assert figures == names
    assert bool(page.of_class("spark")) == small
    assert ("Over all tasks" in page.words) == (tasks > 1)
    assert all(a.get("aria-label") for a in page.of_class("chart"))
    assert len(text) < 400_000


def test_a_run_that_has_written_nothing_yet_has_a_page(command, tmp_path):
    reported_run(tmp_path, "run", rows=[])
    assert command("report", "run").code == 0
    page = Reader((tmp_path / "run" / "report.html").read_text())
    assert "run has written no metrics yet." in page.words
    assert page.count("svg") == 0


def test_an_exported_agent_is_called_one_and_its_evaluations_are_shown(command, tmp_path):
    run = reported_run(tmp_path, "agent", rows=[])
    evaluated(run, {"counting/0": [7.25]})
    (run.path / "manifest.json").write_text("{}")
    assert command("report", "agent").code == 0
    page = Reader((tmp_path / "agent" / "report.html").read_text())
    said = "agent is an exported agent: it holds weights and evaluations, and no metrics"
    assert said in page.words
    assert "has written no metrics yet" not in page.words
    assert "7.25" in page.words


def test_a_run_of_another_version_in_a_folder_is_left_out_with_a_warning(command, tmp_path):
    for name in ("known", "other"):
        reported_run(tmp_path / "runs", name, rows=made_up_rows(1))
    file = tmp_path / "runs" / "other" / "config.json"
    content = json.loads(file.read_text())
    content["config"]["learner"]["gone"] = 3
    file.write_text(json.dumps(content))
    outcome = command("report", "runs")
    assert outcome.code == 0
    why = "runs/other/config.json: learner.gone is no setting of this version of Repertory"
    assert f"repertory: warning: a run is left out: {why}" in outcome.err
    assert "report.html: 1 run in 1 group" in outcome.out
    named = command("report", "runs/other")
    assert named.code == 2
    assert named.sentence.startswith(why)


def test_damaged_lines_are_said_on_the_page(command, tmp_path):
    run = reported_run(tmp_path, "run")
    with run.metrics.open("a") as stream:
        stream.write('{"env_steps": 1')
    assert command("report", "run").code == 0
    page = Reader((tmp_path / "run" / "report.html").read_text())
    assert "run: 1 damaged line of its metrics left out." in page.words


def test_the_same_runs_give_the_same_page(command, tmp_path):
    for seed in (1, 2, 3):
        run = reported_run(tmp_path / "runs", f"run{seed}", seed=seed)
        evaluated(run, {key: [1.0 * seed] for key in TASKS}, successes=[True])
    pages = []
    for _ in range(2):
        assert command("report", "runs").code == 0
        text = (tmp_path / "runs" / "report.html").read_text()
        pages.append(re.sub(r"Written on [^.]*\.", "", re.sub(r"Written on .*? by", "", text)))
    assert pages[0] == pages[1]


def test_fine_tuned_runs_stand_beside_those_from_scratch(command, tmp_path):
    parent = reported_run(tmp_path, "parent", recipe="a", held_out=["counting/8"])
    evaluated(parent, {"counting/8": [3.25]}, trained_on=False)
    for reuse, value in (("all", 9.25), ("none", 5.25)):
        run = reported_run(
            tmp_path,
            f"child-{reuse}",
            recipe="a",
            tasks=["counting/8"],
            initial={"parent": str(parent.path), "reuse": reuse},
        )
        evaluated(run, {"counting/8": [value]})
    assert command("report", ".").code == 0
    page = Reader((tmp_path / "report.html").read_text())
    table = page.words.partition("Fine-tuned, and from scratch")[2]
    assert "a fine-tuned" in table
    assert "a from scratch" in table
    assert "zero-shot" in table
    row = table.partition("counting/8")[2]
    assert row.split()[:3] == ["9.25", "5.25", "3.25"] or row.split()[:3] == [
        "3.25",
        "9.25",
        "5.25",
    ]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["report"], "RUNS is missing"),
        (["report", "nothing"], "there is no run directory nothing"),
        (["report", "empty"], "neither a run directory"),
        (["report", "run", "--out", "empty"], "is a directory"),
        (["report", "run", "--out", "no/where.html"], "there is no directory no"),
        (["report", "run", "--referense", "run"], "Did you mean"),
        (["report", "run", "--reference", "empty"], "neither a run directory"),
        (["report", "broken"], "config.json is damaged"),
    ],
)
def test_a_wrong_report_command_ends_in_a_sentence_and_writes_nothing(
    command, tmp_path, tokens, said
):
    (tmp_path / "empty").mkdir()
    reported_run(tmp_path, "run")
    broken = reported_run(tmp_path, "broken")
    (broken.path / "config.json").write_text("{")
    outcome = command(*tokens)
    assert outcome.code == 2
    assert said in outcome.sentence
    assert outcome.files == []


def test_a_real_run_has_a_report(command, tmp_path: Path):
    config = counting_config(total_steps=600)
    run = new_run(tmp_path, config)
    assert local.train(config, run, False) == 0
    assert command("report", str(run.path)).code == 0
    page = Reader((run.path / "report.html").read_text())
    for words in ("Throughput", "Queues", "Lag", "Evaluations", "test-counting", "600"):
        assert words in page.words, words
    assert len(page.of_class("chart")) >= 10
