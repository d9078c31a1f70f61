"""Help is complete, quick, and loads nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from deploy import schema
from deploy.commands import SUMMARIES
from repertory.config import RunConfig
from repertory.recipes import RECIPES

HEAVY = ("torch", "ray", "gymnasium", "ale_py", "wandb", "cv2", "scipy")
REPORT = """
import json, resource, sys
from deploy.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
usage = resource.getrusage(resource.RUSAGE_SELF)
report = {"code": code, "modules": list(sys.modules), "cpu_s": usage.ru_utime + usage.ru_stime}
print(json.dumps(report), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "tokens", [["--help"], ["train", "quickstart", "--help"], ["train", "quickstrat"], ["recipes"]]
)
def test_help_and_mistakes_load_nothing_heavy_and_take_less_than_a_second(tokens):
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *tokens],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    report = json.loads(done.stderr.splitlines()[-1])
    assert report["code"] == (2 if "quickstrat" in tokens else 0)
    assert not set(HEAVY) & set(report["modules"])
    # CPU time: what a quiet machine would take, whatever else runs on this one.
    assert report["cpu_s"] < 1.0


def test_the_help_of_a_recipe_lists_every_setting_with_its_help_and_its_own_default(command):
    outcome = command("train", "ppo", "--help")
    assert outcome.code == 0
    text = " ".join(outcome.out.replace("│", " ").split())
    config = RECIPES["ppo"].config
    leaves = schema.flatten(schema.dump(config))
    for setting in schema.settings_of(RunConfig):
        if setting.kind is None or leaves[setting.kind[0]] == setting.kind[1]:
            assert f"--{setting.path} " in text, setting.path
            described = setting.info.description
            assert described is None or described.split("\n")[0] in text, setting.path
    assert "--learner.unroll_length INT T, steps per unroll. (default: 32)" in text
    assert "--algorithm.kind {vtrace,ppo,sac,td3}" in text
    assert "--environment.suite {atari,metaworld,halfcheetah,pointmass,counting}" in text
    assert "--dry_run" in text


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_has_help_that_writes_nothing(command, name):
    outcome = command(name, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"usage: repertory {name}")
    assert outcome.files == []


def test_the_overview_lists_every_command(command):
    for tokens in ([], ["--help"], ["-h"], ["help"]):
        outcome = command(*tokens)
        assert outcome.code == 0
        assert all(
            f"{name} " in outcome.out and text in outcome.out for name, text in SUMMARIES.items()
        )


def test_completion_knows_commands_and_settings(command):
    outcome = command("completion", "bash")
    assert outcome.code == 0
    for word in ("evaluate", "--learner.batch_size", "--episodes", "rmsprop_tensorflow"):
        assert word in outcome.out
    checked = subprocess.run(["bash", "-n"], input=outcome.out, text=True, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("name", "word"), [("bench", "NAME"), ("evaluate", "RUN_DIR"), ("watch", "RUN_DIR")]
)
def test_what_a_command_needs_is_shown_as_a_word_and_not_as_a_flag(command, name, word):
    usage, _, rest = command(name, "--help").out.partition("\n")
    assert usage.endswith(word)
    assert rest.index("positional arguments") < rest.index(f" {word} ") < rest.index("--help")
    assert f"--{word.lower()}" not in rest


def test_the_help_of_bench_lists_every_benchmark_and_its_own_help_goes_to_the_benchmark(command):
    listed = command("bench", "--help").out
    for name in ("atari", "atari_lanes", "learner_update"):
        assert f"{name}: " in listed
        own = command("bench", name, "--help")
        assert own.code == 0
        assert own.out.startswith(f"usage: repertory bench {name} ")


def test_the_version_is_printed(command):
    assert command("--version").out == "repertory 0.1.0\n"
