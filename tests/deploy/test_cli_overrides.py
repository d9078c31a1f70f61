"""Recipes, YAML files and flags meet in one schema: forms, precedence, traps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from deploy import schema
from deploy.overrides import check_resume, resolve, scan
from repertory.config import PpoConfig, RunConfig, VTraceConfig
from repertory.errors import BadInput
from repertory.recipes import RECIPES


def resolved(*tokens: str, base: RunConfig | None = None, files: tuple[Path, ...] = ()):
    texts, words = scan(tokens, schema.settings_of(RunConfig))
    assert words == []
    return resolve(base or RunConfig(), files, texts)


@pytest.fixture
def yaml_file(tmp_path):
    def write(text: str, name: str = "own.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "tokens",
    [
        ["--learner.batch_size", "8"],
        ["--learner.batch_size=8"],
        ["--learner.batch-size", "8"],
        ["--learner.batch_size", "3", "--learner.batch_size", "8"],
    ],
)
def test_a_number_is_set_in_every_form_and_the_last_mention_wins(tokens):
    assert resolved(*tokens).learner.batch_size == 8


@pytest.mark.parametrize(
    "tokens",
    [
        ["--tasks", "atari/pong/m0d0", "atari/breakout/m4d0", "--seed", "2"],
        ["--tasks", "atari/pong/m0d0,atari/breakout/m4d0"],
        ["--tasks=atari/pong/m0d0,atari/breakout/m4d0"],
        ["--tasks=['atari/pong/m0d0', 'atari/breakout/m4d0']"],
        ["--tasks", "atari/pong/m0d0", "--tasks", "atari/breakout/m4d0"],
    ],
)
def test_a_list_is_set_in_every_form(tokens):
    assert resolved(*tokens).tasks == ("atari/pong/m0d0", "atari/breakout/m4d0")


@pytest.mark.parametrize(
    ("tokens", "value"),
    [
        (["--environment.fire_reset"], True),
        (["--environment.fire_reset", "true"], True),
        (["--environment.fire_reset=True"], True),
        (["--environment.fire-reset=false"], False),
        (["--no-environment.fire_reset"], False),
        (["--environment.fire_reset", "--no-environment.fire_reset"], False),
    ],
)
def test_a_truth_value_is_set_in_every_form(tokens, value):
    assert resolved(*tokens).environment.fire_reset is value


def test_a_value_of_several_types_takes_each_of_them():
    assert resolved("--environment.full_action_space=true").environment.full_action_space is True
    assert resolved("--environment.full_action_space=auto").environment.full_action_space == "auto"
    assert resolved("--held_out", "default").held_out == "default"
    assert resolved("--held_out", "atari/pong/m1d0").held_out == ("atari/pong/m1d0",)
    assert resolved("--held_out=").held_out == ()


def test_scientific_notation_makes_whole_numbers_and_numbers():
    config = resolved("--total_steps", "2e6", "--optimiser.learning_rate", "1e-3")
    assert config.total_steps == 2_000_000
    assert config.optimiser.learning_rate == 1e-3
    with pytest.raises(BadInput, match=r"total_steps: expected an integer above 0, got '2.5e0'"):
        resolved("--total_steps", "2.5e0")


def test_a_negative_number_is_a_value_and_not_a_flag():
    assert resolved("--evaluation.seed", "-7").evaluation.seed == -7


def test_another_algorithm_starts_from_its_own_defaults_wherever_its_flag_stands():
    config = resolved("--algorithm.clip", "0.3", "--algorithm.kind", "ppo")
    assert config.algorithm == PpoConfig(clip=0.3)
    back = resolved("--algorithm.kind=vtrace", base=config)
    assert back.algorithm == VTraceConfig()


def test_naming_the_kind_a_run_has_keeps_its_values():
    base = RunConfig(algorithm=VTraceConfig(entropy_cost=0.5))
    assert resolved("--algorithm.kind", "vtrace", base=base).algorithm.entropy_cost == 0.5


def test_another_suite_starts_from_its_own_defaults():
    config = resolved("--environment.suite", "counting", "--environment.actions", "3")
    assert config.environment.suite == "counting"
    assert config.environment.actions == 3


def test_flags_beat_later_files_beat_earlier_files_beat_the_recipe(yaml_file):
    first = yaml_file("seed: 11\nlearner: {batch_size: 16, unroll_length: 5}\n", "a.yaml")
    second = yaml_file("learner: {batch_size: 8}\nactors: {count: 3}\n", "b.yaml")
    config = resolved("--actors.count=4", files=(first, second))
    assert (config.seed, config.learner.unroll_length) == (11, 5)
    assert (config.learner.batch_size, config.actors.count) == (8, 4)
    assert config.actors.lanes == RunConfig().actors.lanes


def test_yaml_numbers_that_yaml_takes_for_text_are_numbers(yaml_file):
    text = "optimiser: {learning_rate: 1e-3}\ntotal_steps: 1e6\n"
    assert yaml.safe_load(text)["total_steps"] == "1e6"
    config = resolved(files=(yaml_file(text),))
    assert config.optimiser.learning_rate == 1e-3
    assert config.total_steps == 1_000_000


def test_yaml_words_that_yaml_takes_for_truth_are_words(yaml_file):
    assert resolved(files=(yaml_file("learner: {compile: off}\n"),)).learner.compile == "off"
    assert resolved(files=(yaml_file("learner: {compile: on}\n"),)).learner.compile == "on"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("actors: {count: true}", "actors.count: expected an integer above 0 or all, got True."),
        ("actors: {count: 4.5}", "actors.count: expected an integer above 0 or all, got 4.5."),
        ("actors: {count: '4'}", "actors.count: expected an integer above 0 or all, got '4'."),
        ("actors: {count: }", "actors.count: expected an integer above 0 or all, got None."),
        (
            "optimiser: {learning_rate: fast}",
            "optimiser.learning_rate: expected a number above 0, got 'fast'.",
        ),
        ("network: {width: .inf}", "network.width: expected a number above 0, got inf."),
        ("optimiser: {learning_rate: yes}", "optimiser.learning_rate: expected a number above 0"),
        ("environment: {fire_reset: 1}", "environment.fire_reset: expected true or false, got 1."),
        ("tasks: atari/pong/m0d0", "tasks: expected a list of names, got 'atari/pong/m0d0'."),
        ("tasks: [1]", "tasks: expected a list of names, got [1]."),
        (
            "learner: {batchsize: 3}",
            "unknown setting 'learner.batchsize'. Did you mean 'learner.batch_size'?",
        ),
        ("learner: 3", "learner: expected settings by name, got 3"),
        ("seed: {a: 1}", "unknown setting 'seed.a'. Did you mean 'seed'?"),
        ("algorithm: {clip: 0.1}", "setting 'algorithm.clip' belongs to algorithm.kind ppo"),
        ("algorithm: {c_clip: 2.0}", "algorithm.c_clip 2.0 must not exceed"),
        ("[1, 2]", "expected settings by name, got [1, 2]"),
    ],
)
def test_a_mistake_in_yaml_names_file_and_key(yaml_file, text, sentence):
    file = yaml_file(text)
    with pytest.raises(BadInput) as error:
        resolved(files=(file,))
    assert str(error.value).startswith(f"{file}: {sentence}")


def test_yaml_cannot_make_objects(yaml_file):
    file = yaml_file("seed: !!python/object/apply:os.getpid []\n")
    with pytest.raises(BadInput, match=r"own.yaml is not valid YAML: could not determine"):
        resolved(files=(file,))


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"cannot read .*none.yaml: No such file"):
        resolved(files=(tmp_path / "none.yaml",))
    with pytest.raises(BadInput, match="Is a directory"):
        resolved(files=(tmp_path,))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_of_every_recipe_survives_as_flags_as_yaml_and_as_json(recipe, yaml_file):
    config = RECIPES[recipe].config
    leaves = schema.flatten(schema.dump(config))
    tokens = []
    for path, value in leaves.items():
        texts = ",".join(value) if isinstance(value, tuple) else str(value)
        tokens.append(f"--{path}={texts}")
    assert resolved(*tokens) == config
    file = yaml_file(yaml.safe_dump(config.model_dump(mode="json")))
    assert resolved(files=(file,)) == config
    assert RunConfig.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


def test_what_every_setting_takes_can_be_said_in_words():
    settings = list(schema.settings_of(RunConfig))
    assert len(settings) > 80
    for setting in settings:
        said = schema.allowed(setting.info)
        assert said
        assert "class" not in said, setting.path


def test_a_resumed_run_may_change_where_and_how_long_it_runs():
    before = RunConfig()
    after = resolved(
        *("--actors.count=7", "--total_steps=5", "--runtime=local", "--learner.device=cpu"),
        *("--evaluation.episodes=1", "--logging.every_s=1", "--checkpoint.keep=9"),
        base=before,
    )
    check_resume(before, after)


@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("--network.torso=impala", "network.torso is shallow in the run, impala was given"),
        ("--seed=9", "seed is 1 in the run, 9 was given"),
        ("--tasks=atari/pong/m0d0", "tasks is atari/breakout/m0d0 in the run, atari/pong/m0d0 was"),
        ("--learner.batch_size=8", "learner.batch_size is 32 in the run, 8 was given"),
        ("--algorithm.kind=ppo", "algorithm.kind is vtrace in the run, ppo was given"),
    ],
)
def test_a_resumed_run_may_not_become_another_one(flag, change):
    with pytest.raises(BadInput) as error:
        check_resume(RunConfig(), resolved(flag))
    assert change in str(error.value)
