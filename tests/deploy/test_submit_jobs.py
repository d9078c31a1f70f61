"""`repertory submit` against a real cluster, started as docker-compose.yml starts one."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray
from patience import awaited
from real_head import TOKEN, Head, running_actor_node, running_head

from deploy.guard import HOME, NAMES
from deploy.jobs import shipping
from repertory.errors import BadInput

BEARER = {"Authorization": f"Bearer {TOKEN}"}
PATIENCE_S = 250.0
UNDER_WAY = ("PENDING", "RUNNING")
RUN = ("--actors.count", "1", "--total_steps", "400", "--evaluation.episodes", "1")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with running_head() as started:
        yield started


def submit(head: Head, name: str, *words: str) -> tuple[int, str]:
    """Submit a run and return its exit code with everything that was printed."""
    where = ("--address", head.jobs, "--runs_dir", str(head.folder / "runs"))
    done = head.repertory("submit", "debug-counting", "--name", name, *where, *RUN, *words)
    return done.returncode, done.stdout + done.stderr


def test_a_submitted_run_trains_and_its_output_and_exit_code_come_back(head):
    settings = head.folder / "mine.yaml"
    settings.write_text("learner:\n  unroll_length: 6\n")
    code, said = submit(head, "night", "--config", str(settings))
    assert code == 0, said
    run = head.folder / "runs" / "night"
    assert f"run night in {run} on the head" in said
    assert f"done: repertory evaluate {run}" in said
    config = json.loads((run / "config.json").read_text())["config"]
    assert (config["total_steps"], config["learner"]["unroll_length"]) == (400, 6)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(row["env_steps"] for row in rows) >= 400
    # The driver left without a word to Ray, which has ended what was the run's.
    awaited(lambda: alive(head) == [], for_s=PATIENCE_S)
    # Sent again, as a scheduler would, it has nothing left to do.
    code, said = submit(head, "night", "--config", str(settings))
    assert (code, "nothing left to train" in said) == (0, True), said
    # And what cannot be the same run fails with its own code and sentence.
    code, said = submit(head, "night", "--network.hidden", "64")
    assert (code, "network.hidden is 32 in the run, 64 was given" in said) == (2, True), said
    for file in run.rglob("*"):
        assert file.is_dir() or TOKEN.encode() not in file.read_bytes(), file
    assert TOKEN not in said


def test_a_stopped_job_leaves_a_checkpoint_and_goes_on_when_sent_again(head):
    code, said = submit(head, "stopped", "--total_steps", "100000000", "--no-follow")
    assert code == 0, said
    identity = re.search(r"^job (\S+): ", said, re.M)[1]
    run = head.folder / "runs" / "stopped"
    logs = f"/api/jobs/{identity}/logs"
    awaited(lambda: steps(run) > 0 or not under_way(head, identity), for_s=PATIENCE_S)
    assert under_way(head, identity), head.ask(logs)["logs"]
    # While it runs, whoever has the token sees what runs where.
    done = head.repertory("status", "--address", head.jobs)
    assert done.returncode == 0, done.stderr
    for words in ("stopped", identity[:10], "RUNNING", "1 learner, 1 worker"):
        assert words in done.stdout, words
    assert list((run / "checkpoints").glob("*")) == []
    # So has Prometheus what the run reports, per task.
    wanted = r'^ray_repertory_task_return\{.*run="stopped",.*task="counting/1"\} [\d.e+-]+$'
    awaited(
        lambda: any(re.search(wanted, page, re.M) for page in exporters(head)), for_s=PATIENCE_S
    )
    # And what the dashboard shows of nodes, which is Ray's own.
    dashboard = (HOME / "deploy" / "launch" / "grafana.json").read_text(encoding="utf-8")
    of_nodes = set(re.findall(r"\bray_node_\w+", dashboard))
    assert len(of_nodes) >= 2
    awaited(
        lambda: all(
            any(re.search(rf"^{name}\{{", page, re.M) for page in exporters(head))
            for name in of_nodes
        ),
        for_s=PATIENCE_S,
    )
    head.ask(f"/api/jobs/{identity}/stop", method="POST")
    awaited(lambda: not under_way(head, identity), for_s=PATIENCE_S)
    assert head.ask(f"/api/jobs/{identity}")["status"] == "STOPPED"
    # Ray's own three seconds would not have been enough for all runs; ours are sixty.
    assert "stopped: repertory train --resume" in head.ask(logs)["logs"]
    assert list((run / "checkpoints").glob("*"))
    before = steps(run)
    code, said = submit(head, "stopped", "--total_steps", str(before + 400))
    assert code == 0, said
    assert steps(run) >= before + 400
    assert "resumed from" in (run / "log.txt").read_text()


def alive(head: Head) -> list[str]:
    """Return the classes of actors of runs that have not ended."""
    actors = head.ask("/api/v0/actors?limit=1000&detail=1")["data"]["result"]["result"]
    assert any(actor["class_name"] == "LearnerHost" for actor in actors)
    return [
        actor["class_name"]
        for actor in actors
        if actor["state"] != "DEAD" and actor["class_name"] != "JobSupervisor"
    ]


def exporters(head: Head) -> list[str]:
    """Return the pages of metrics that Prometheus would be sent to."""
    file = head.folder / "ray" / "prom_metrics_service_discovery.json"
    pages = []
    for target in json.loads(file.read_text())[0]["targets"] if file.is_file() else []:
        request = urllib.request.Request(f"http://{target}/metrics", headers=BEARER)
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=30) as answer:
            pages.append(answer.read().decode())
    return pages


def under_way(head: Head, identity: str) -> bool:
    return head.ask(f"/api/jobs/{identity}")["status"] in UNDER_WAY


def steps(run: Path) -> int:
    """Return the steps of the newest row of a run's metrics."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return max((int(json.loads(line).get("env_steps", 0)) for line in lines), default=0)


@pytest.mark.slow
def test_a_run_waits_for_its_nodes_and_its_workers_go_to_those_of_actors(head):
    words = ("--actors.count", "2", "--actors.nodes_wait_s", "200", "--no-follow")
    code, said = submit(head, "spread", *words)
    assert code == 0, said
    identity = re.search(r"^job (\S+): ", said, re.M)[1]
    waits = "need 4 cores and the cluster has 3"
    awaited(lambda: waits in head.ask(f"/api/jobs/{identity}/logs")["logs"], for_s=PATIENCE_S)
    with running_actor_node(head, cores=2):
        status = awaited(
            lambda: (s := head.ask(f"/api/jobs/{identity}")["status"]) not in UNDER_WAY and s,
            for_s=PATIENCE_S,
        )
        assert status == "SUCCEEDED", head.ask(f"/api/jobs/{identity}/logs")["logs"]
        nodes = head.ask("/api/v0/nodes?detail=1")["data"]["result"]["result"]
        roles = {node["node_id"]: node["labels"].get("role") for node in nodes}
        listed = head.ask("/api/v0/actors?detail=1&limit=1000")["data"]["result"]["result"]
        # Every node has a gauge besides, of no core, which a run so short may end before it starts.
        placed = [
            (actor["class_name"], roles[actor["node_id"]])
            for actor in listed
            if actor["job_id"] == max(a["job_id"] for a in listed)
            and actor["class_name"] != "NodeGauge"
        ]
    assert sorted(placed) == [
        ("EvaluatorHost", "learner"),
        ("LearnerHost", "learner"),
        ("WorkerHost", "actor"),
        ("WorkerHost", "actor"),
    ]


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(command):
    outcome = command(
        *("submit", "quickstart", "--address", "http://127.0.0.1:8", "--dry-run"),
        *("--name", "n", "--tasks", "atari/pong/m0d0", "--learner.batch-size=16"),
    )
    assert outcome.code == 0, outcome.err
    assert "address: auto" in outcome.out
    line = outcome.out.splitlines()[-1]
    assert "to http://127.0.0.1:8 and run: python -m deploy train quickstart --name n" in line
    wanted = "--resume auto --runs_dir /runs --address auto --runtime=cluster"
    assert line.endswith(f"{wanted} --tasks=atari/pong/m0d0 --learner.batch_size=16")
    assert outcome.files == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("submit",), "RECIPE is missing; recipes: "),
        (("submit", "quickstrat"), "unknown recipe 'quickstrat'. Did you mean 'quickstart'?"),
        (("submit", "quickstart", "--address", "head:8265"), "is not that of a Jobs API: http://"),
        (("submit", "quickstart", "--runs_dir", "runs"), "give an absolute path on the head"),
        (("submit", "quickstart", "--runtime", "local"), "runtime local is one process"),
        (("submit", "quickstart", "--resume", "runs/x"), "unknown setting 'resume'."),
        (("submit", "quickstart", "--config", "no.yaml"), "cannot read no.yaml: No such file"),
    ],
)
def test_what_can_be_known_to_be_wrong_is_refused_before_anything_is_sent(command, words, sentence):
    outcome = command(*words)
    assert outcome.code == 2
    assert sentence in outcome.sentence
    assert outcome.files == []


def test_a_jobs_api_that_does_not_answer_is_named_within_seconds(command):
    began = time.monotonic()
    outcome = command("submit", "quickstart", "--address", "http://127.0.0.1:9")
    assert outcome.code == 5
    assert "no Jobs API answers at host 127.0.0.1, port 9 within 3 s" in outcome.sentence
    assert "ssh -L 8265:127.0.0.1:8265 HEAD" in outcome.sentence
    assert time.monotonic() - began < 30


class _Refusing(BaseHTTPRequestHandler):
    """Answers as a Jobs API of another mind: it lets in, and then wants nothing."""

    def do_GET(self) -> None:
        version = {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session": ""}
        known = self.path == "/api/version"
        self._answer(200 if known else 500, json.dumps(version) if known else "out of order")

    def do_PUT(self) -> None:
        # Until it is read, whoever sends is told of a broken connection.
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, "")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(507, "no room for jobs")

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("words", [("submit", "quickstart", "--no-follow"), ("status",)])
def test_a_jobs_api_that_refuses_what_it_is_asked_is_quoted_in_a_sentence(command, words):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        outcome = command(*words, "--address", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert outcome.code == 5
    said = f"the Jobs API at http://127.0.0.1:{server.server_port} was asked "
    assert outcome.err.splitlines()[-1].startswith(f"repertory: {said}")
    assert "Traceback" not in outcome.err


def test_a_job_takes_the_packages_along_and_nothing_else(tmp_path):
    home, staged = tmp_path / "home", tmp_path / "staged"
    for name in (*NAMES, "runs", "secrets", ".git"):
        (home / name / "__pycache__").mkdir(parents=True)
        (home / name / "file.py").write_text("x = 1\n")
    for name in shipping.ALONG:
        (home / name).write_text("a\n")
    staged.mkdir()
    config = tmp_path / "mine.yaml"
    config.write_text("seed: 3\n")
    assert shipping.stage(staged, [config], home) == ["submitted/0-mine.yaml"]
    assert {path.name for path in staged.iterdir()} == {*NAMES, *shipping.ALONG, "submitted"}
    assert not list(staged.rglob("__pycache__"))
    assert (staged / "submitted" / "0-mine.yaml").read_text() == "seed: 3\n"


def test_a_large_file_in_a_package_is_not_shipped_but_named(tmp_path):
    (tmp_path / "staged").mkdir()
    home = tmp_path / "home"
    for name in NAMES:
        (home / name).mkdir(parents=True)
    (home / "pyproject.toml").write_text("")
    with (home / "envs" / "film.mp4").open("wb") as film:
        film.truncate(shipping.LARGEST_BYTES + 1)
    with pytest.raises(BadInput, match=r"the largest file is envs/film\.mp4"):
        shipping.stage(tmp_path / "staged", [], home)


def test_what_is_shipped_from_here_is_small(tmp_path):
    shipping.stage(tmp_path, [])
    assert (tmp_path / "deploy" / "__main__.py").is_file()
    assert shipping.size(tmp_path) < 5_000_000
    assert Path(HOME, "tests").is_dir()
    assert not (tmp_path / "tests").exists()
