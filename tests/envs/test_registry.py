"""From names to tasks and lanes, and every sentence that a wrong name ends in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from envs import registry
from repertory.config import AtariConfig, CountingConfig, RunConfig
from repertory.errors import BadInput
from repertory.types import ActionSpec, ObservationSpec, TaskSpec

ATARI = AtariConfig()


def test_importing_the_registry_loads_no_emulator() -> None:
    program = (
        "import sys; import envs.registry\n"
        "print([name for name in ('ale_py', 'cv2', 'gymnasium', 'torch') if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_names_and_suites_become_tasks_in_their_order() -> None:
    names = ["atari/pong/m1d0", "atari/breakout/held-out", "atari/breakout/m0d0"]
    assert registry.resolve(names, ATARI) == (
        "atari/pong/m1d0",
        "atari/breakout/m8d0",
        "atari/breakout/m24d0",
        "atari/breakout/m40d1",
        "atari/breakout/m0d0",
    )
    assert registry.resolve(["counting/3", "counting/0"], CountingConfig()) == (
        "counting/3",
        "counting/0",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "need at least one task, for instance atari/breakout/m0d0."),
        (
            ["atri/pong/m0d0"],
            "unknown task 'atri/pong/m0d0': no suite is called 'atri'. Did you mean 'atari'? "
            "Suites: atari, metaworld, halfcheetah, pointmass, counting.",
        ),
        (
            ["ALE/Pong-v5"],
            "unknown task 'ALE/Pong-v5': no suite is called 'ALE'. "
            "Did you mean 'atari/pong/m0d0'? "
            "Suites: atari, metaworld, halfcheetah, pointmass, counting.",
        ),
        (
            ["counting/0"],
            "'counting/0' is of the suite counting, but environment.suite is atari; "
            "a run's tasks are all of one suite.",
        ),
        (
            ["atari/breakout", "atari/breakout/m4d1"],
            "task 'atari/breakout/m4d1' is given twice, by 'atari/breakout' and by "
            "'atari/breakout/m4d1'; name it once.",
        ),
        (
            ["atari/pong/m2d0"],
            "pong has no mode 2; available: 0, 1.",
        ),
    ],
)
def test_wrong_names_end_in_one_sentence(names: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        registry.resolve(names, ATARI)
    assert str(caught.value) == message


def test_a_malformed_counting_task_shows_the_grammar() -> None:
    with pytest.raises(BadInput) as caught:
        registry.resolve(["counting/one"], CountingConfig())
    assert str(caught.value) == (
        "'counting/one' is not a task; counting tasks are written counting/<number>, "
        "for instance counting/0."
    )


def test_a_run_trains_on_the_train_split_and_is_tested_on_the_rest() -> None:
    config = RunConfig(tasks=("atari/space_invaders/train", "atari/asteroids/train"))
    trained, held_out = registry.training_tasks(config), registry.held_out_tasks(config)
    assert (len(trained), len(held_out)) == (29 + 63, 3 + 3)
    assert not set(trained) & set(held_out)


def test_the_split_is_a_setting() -> None:
    config = RunConfig(tasks=("atari/pong/train",), held_out=("atari/pong/m1d0", "atari/pong/m1d3"))
    assert registry.held_out_tasks(config) == config.held_out
    assert len(registry.training_tasks(config)) == 6
    nothing = RunConfig(tasks=("atari/breakout/train",), held_out=())
    assert len(registry.training_tasks(nothing)) == 24
    assert registry.held_out_tasks(nothing) == ()


def test_by_default_what_is_trained_on_is_not_held_out() -> None:
    config = RunConfig(tasks=("atari/breakout/m8d0", "atari/breakout/m0d0"))
    assert registry.held_out_tasks(config) == ("atari/breakout/m24d0", "atari/breakout/m40d1")
    counting = RunConfig(tasks=("counting/0",), environment=CountingConfig())
    assert registry.held_out_tasks(counting) == ()


def test_a_task_cannot_be_trained_on_and_held_out() -> None:
    config = RunConfig(tasks=("atari/pong",), held_out=("atari/pong/m1d0",))
    with pytest.raises(BadInput) as caught:
        registry.training_tasks(config)
    assert str(caught.value) == (
        "'atari/pong/m1d0' is in both tasks and held_out; held-out tasks are never trained on "
        "(suites that end in /train leave them out)."
    )


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    config = RunConfig(tasks=("atari/pong/train",), held_out=("atari/pong",))
    with pytest.raises(BadInput) as caught:
        registry.training_tasks(config)
    assert str(caught.value) == (
        "need at least one task (atari/pong/train leaves none), for instance atari/breakout/m0d0."
    )


def test_specs_describe_the_tasks_in_order() -> None:
    settings = AtariConfig(frame_size=64, stack=2, frame_skip=3)
    specs = registry.task_specs(["atari/pong/m1d0", "atari/pong/m0d3"], settings, 0.97)
    expected = [
        TaskSpec(
            index=index,
            name=name,
            observation=ObservationSpec((64, 64), "uint8", 2),
            action=ActionSpec("discrete", 6),
            discount=0.97,
            frames_per_step=3,
        )
        for index, name in enumerate(["atari/pong/m1d0", "atari/pong/m0d3"])
    ]
    assert list(specs) == expected


def test_all_specs_of_a_run_share_one_action_space() -> None:
    mixed = registry.task_specs(["atari/pong/m0d0", "atari/breakout/m0d0"], ATARI, 0.99)
    assert {spec.action.size for spec in mixed} == {18}
    minimal = AtariConfig(full_action_space=False)
    with pytest.raises(BadInput, match="have different minimal actions"):
        registry.task_specs(["atari/pong/m0d0", "atari/breakout/m0d0"], minimal, 0.99)


def test_another_runs_action_space_can_be_kept_for_other_tasks() -> None:
    (spec,) = registry.task_specs(
        ["atari/pong/m1d0"], ATARI, 0.99, action=ActionSpec("discrete", 18)
    )
    lanes = registry.make_lanes(ATARI, [spec], [0, 0], seed=3, path=("evaluation",))
    assert lanes.reset().shape == (2, 84, 84)
    lanes.close()


def test_suites_are_listed() -> None:
    suites = registry.list_suites()
    assert "atari/asteroids/train" in suites
    assert "atari/asteroids/held-out" in suites
    assert "atari/pong" in suites
