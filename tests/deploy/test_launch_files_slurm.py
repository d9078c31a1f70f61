"""deploy/launch/slurm.sbatch, run to its end with programs in the place of Slurm, Ray and ours."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from launch_files import HOME, LAUNCH, ray_start_options
from patience import awaited

SLURM = LAUNCH / "slurm.sbatch"
JOB = "4711"
PATIENCE_S = 120.0

# Every program notes how it was called; what differs is what it does then.
NOTE = f"""#!{sys.executable}
import json, os, pathlib, signal, subprocess, sys, time
here = pathlib.Path(os.environ["STAGE"])
name = pathlib.Path(sys.argv[0]).name
def note(**more):
    kept = {{k: v for k, v in os.environ.items() if k.startswith(("RAY_", "WANDB_", "SLURM_NO"))}}
    said = {{"program": name, "words": sys.argv[1:], "variables": kept, **more}}
    with (here / "notes").open("a") as notes:
        notes.write(json.dumps(said) + "\\n")
"""
PROGRAMS = {
    "scontrol": """
note()
if sys.argv[1] == "show":
    print("n1\\nn2")
""",
    "hostname": """
print("10.0.0.7 fd00::7")
""",
    # A step on two nodes: the command on each of them, the first node's code the step's.
    "srun": """
note()
command = sys.argv[1:]
while command[0].startswith("-"):
    command.pop(0)
if command[0] == "hostname":
    sys.exit(subprocess.run(command).returncode)
nodes = [subprocess.Popen(command, env={**os.environ, "SLURM_NODEID": str(i)}) for i in range(2)]
signal.signal(signal.SIGTERM, lambda number, frame: [node.terminate() for node in nodes])
sys.exit([node.wait() for node in nodes][0])
""",
    "ray": """
token = pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"])
note(token=token.read_text(), mode=token.stat().st_mode & 0o777)
if os.environ["SLURM_NODEID"] == "0" and not (here / "ray is broken").exists():
    entrypoint = sys.argv[sys.argv.index("--") + 1:]
    sys.exit(subprocess.run(entrypoint).returncode)
""",
    # The run's lock is the real one: by it the script finds this process.
    "repertory": """
note()
def stopped(number, frame):
    (run / "saved").touch()
    lock.release()
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stopped)
given = dict(zip(sys.argv, sys.argv[1:]))
run = pathlib.Path(given["--runs_dir"]) / given["--name"]
run.mkdir(parents=True)
from repertory.run_lock import RunLock
lock = RunLock(run / "LOCK")
while (here / "train on").exists():
    time.sleep(0.05)
lock.release()
sys.exit(int((here / "code").read_text()) if (here / "code").exists() else 0)
""",
}


@dataclass(frozen=True)
class Stage:
    """A folder with the programs, from which a job is submitted."""

    folder: Path

    @property
    def secrets(self) -> Path:
        return self.folder / f".repertory-{JOB}"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "quickstart"

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Run the script as Slurm runs it on the first node of two."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return subprocess.Popen(
            [str(SLURM), *words],
            env={
                **kept,
                "PATH": f"{self.folder / 'slurm'}:{os.environ['PATH']}",
                "PYTHONPATH": str(HOME),
                "STAGE": str(self.folder),
                "SLURM_SUBMIT_DIR": str(self.folder),
                "SLURM_JOB_ID": JOB,
                "SLURM_JOB_NODELIST": "n[1-2]",
                "SLURM_JOB_NUM_NODES": "2",
                "SLURM_CPUS_PER_TASK": "16",
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, job: subprocess.Popen[str]) -> str:
        """Wait for the job and return what it said to stderr."""
        _, said = job.communicate(timeout=PATIENCE_S)
        return said

    def notes(self, program: str) -> list[dict[str, Any]]:
        """Return how a program was called, once and again."""
        file = self.folder / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        return [note for line in lines if (note := json.loads(line))["program"] == program]

    def requeued(self) -> bool:
        return ["requeue", JOB] in [note["words"] for note in self.notes("scontrol")]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    for name, does in PROGRAMS.items():
        # Ray and Repertory are found in the environment of the checkout, Slurm's on the node.
        ours = name in ("ray", "repertory")
        file = tmp_path / (".venv/bin" if ours else "slurm") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(NOTE + does)
        file.chmod(0o755)
    return Stage(tmp_path)


def value(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_the_slurm_script_is_sound_shell():
    assert os.access(SLURM, os.X_OK)
    done = subprocess.run(["bash", "-n", str(SLURM)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", str(SLURM)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_slurm_is_asked_for_a_signal_before_the_end_and_for_whole_nodes():
    directives = re.findall(r"^#SBATCH (\S+)$", SLURM.read_text(encoding="utf-8"), re.M)
    wanted = {"--signal=B:TERM@120", "--requeue", "--ntasks-per-node=1", "--exclusive"}
    assert wanted <= set(directives)


def test_a_job_that_ends_well_has_trained_with_a_token_of_its_own_and_leaves_none(stage):
    job = stage.start("quickstart", "--seed", "2")
    said = stage.finish(job)
    assert job.returncode == 0, said
    assert not stage.requeued()
    assert not stage.secrets.exists()
    (trained,) = stage.notes("repertory")
    assert trained["words"][:4] == ["train", "quickstart", "--name", "quickstart"]
    assert trained["words"][-2:] == ["--seed", "2"]
    # Two nodes of 16 cores, less the three of learner, evaluator and replay.
    assert value(trained["words"], "--actors.count") == "29"
    nodes = stage.notes("ray")
    assert len(nodes) == 2
    for node in nodes:
        assert re.fullmatch("[0-9a-f]{64}", node["token"])
        assert stat.S_IMODE(node["mode"]) == 0o400
        assert node["variables"]["RAY_AUTH_MODE"] == "token"
        assert value(node["words"], "--address") == "10.0.0.7:24711"
        assert value(node["words"], "--min-nodes") == "2"
    # Ray is told of 16 cores, so its step must have them.
    (step,) = [note["words"] for note in stage.notes("srun") if "symmetric" in str(note["words"])]
    assert "--cpus-per-task=16" in step
    # On no command line, where `ps` shows it to everyone on the node.
    called = [note for program in PROGRAMS for note in stage.notes(program)]
    spoken = [word for note in called for word in note["words"]]
    assert not any(nodes[0]["token"] in word for word in spoken)


def test_the_first_node_is_the_learners_and_ray_takes_its_arguments(stage):
    stage.finish(stage.start("quickstart", STORE_BYTES="123456789"))
    symmetric = pytest.importorskip("ray.scripts.symmetric_run")
    labels = {}
    for node in stage.notes("ray"):
        assert node["words"][0] == "symmetric-run"
        before = node["words"][1 : node["words"].index("--")]
        started = ray_start_options(symmetric.curate_and_validate_ray_start_args(before))
        assert (started["num_cpus"], started["object_store_memory"]) == (16, 123456789)
        labels[node["variables"]["SLURM_NODEID"]] = started["labels"]
    assert labels == {"0": "role=learner", "1": ""}


def test_the_code_of_a_run_that_fails_is_the_jobs_and_it_is_not_queued_again(stage):
    (stage.folder / "code").write_text("3")
    job = stage.start("quickstart")
    said = stage.finish(job)
    assert job.returncode == 3, said
    assert not stage.requeued()
    assert not stage.secrets.exists()


def test_a_ray_that_could_not_be_started_is_a_failure_though_it_ends_with_zero(stage):
    (stage.folder / "ray is broken").touch()
    job = stage.start("quickstart")
    assert "Ray could not be started" in stage.finish(job)
    assert job.returncode == 1
    assert stage.notes("repertory") == []


def test_a_signal_before_the_end_leaves_a_checkpoint_and_queues_the_job_again(stage):
    (stage.folder / "train on").touch()
    job = stage.start("quickstart")
    lock = stage.run / "LOCK"
    awaited(lambda: lock.exists() and "pid" in lock.read_text(), for_s=PATIENCE_S)
    token = stage.notes("ray")[0]["token"]
    job.send_signal(signal.SIGTERM)
    said = stage.finish(job)
    assert job.returncode == 128 + signal.SIGTERM, said
    # The training process alone was told: it saved, and Ray's ended by themselves after it.
    assert (stage.run / "saved").exists()
    assert stage.requeued()
    assert not stage.secrets.exists()
    # Slurm starts the job once more under its number, and nothing is left of the token before.
    shutil.rmtree(stage.run)
    (stage.folder / "train on").unlink()
    job = stage.start("quickstart")
    assert (stage.finish(job), job.returncode) == ("", 0)
    assert stage.notes("ray")[-1]["token"] != token


def test_a_signal_before_there_is_a_run_ends_the_step_and_queues_the_job_again(stage):
    slow = stage.folder / ".venv" / "bin" / "ray"
    slow.write_text(NOTE + "note()\ntime.sleep(600)\n")
    job = stage.start("quickstart")
    awaited(lambda: len(stage.notes("ray")) == 2, for_s=PATIENCE_S)
    job.send_signal(signal.SIGTERM)
    stage.finish(job)
    assert job.returncode != 0
    assert stage.requeued()
    assert not stage.secrets.exists()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [({}, "secrets/wandb_api_key"), ({"WANDB_API_KEY_FILE": "/mine"}, "/mine")],
)
def test_the_file_of_the_wandb_key_is_named_to_the_run(
    stage: Stage, variables: Mapping[str, str], wanted: str
):
    (stage.folder / "secrets").mkdir()
    (stage.folder / "secrets" / "wandb_api_key").write_text("k" * 40)
    stage.finish(stage.start("quickstart", **variables))
    (trained,) = stage.notes("repertory")
    assert trained["variables"]["WANDB_API_KEY_FILE"].endswith(wanted)
    assert "WANDB_API_KEY" not in trained["variables"]


def test_the_slurm_scripts_command_is_one_that_repertory_accepts(command):
    text = SLURM.read_text(encoding="utf-8").replace("\\\n", " ")
    line = re.search(r"(repertory train .*) \"\$@\" &$", text, re.M)[1]
    values = {"recipe": "quickstart", "run": "night", "runs": "runs", "actors": "29"}
    filled = [values[word[1:]] if word.startswith("$") else word for word in shlex.split(line)]
    outcome = command(*filled[1:], "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "count: 29" in outcome.out
    assert outcome.files == []
    assert filled[filled.index("--resume") + 1] == "auto"
