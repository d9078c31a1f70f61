"""Checkpoints of earlier versions, which lack what came later, are refused in one sentence."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from off_policy_runs import counting_control_config
from small_runs import counting_config, new_run

from deploy import local
from repertory import checkpoint
from repertory.config import GradientConfig, RunConfig
from repertory.errors import BadInput
from repertory.run_directory import RunDirectory
from repertory.saved_state import SavedState


def masked_config(**changes: Any) -> RunConfig:
    gradients = GradientConfig(method="harmony", metrics_every=0)
    return counting_config(gradients=gradients, **changes)


CONFIGS = {"counting": counting_config, "masks": masked_config, "sac": counting_control_config}


def named_parts(state: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the way to every entry that we name, not to what is torch's or numpy's own."""
    for key, value in state.items():
        if key.isdigit():
            continue
        yield (*path, key)
        if isinstance(value, dict) and key not in ("tensors", "generator"):
            yield from named_parts(value, (*path, key))


def without(state: Any, path: tuple[str, ...]) -> Any:
    """Return a state without the entry at `path`."""
    first, *rest = path
    return {
        key: without(value, tuple(rest)) if key == first and rest else value
        for key, value in state.items()
        if key != first or rest
    }


@pytest.fixture(scope="module", params=CONFIGS)
def stopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a run's config and directory after a few updates."""
    config = CONFIGS[request.param](total_steps=600)
    run = new_run(tmp_path_factory.mktemp("older"), config)
    local.train(config, run, False, after_round=lambda at: at.loop.updates >= 4)
    return config, run


def test_whatever_a_checkpoint_lacks_resuming_says_so_in_a_sentence_or_does_without(
    stopped: tuple[RunConfig, RunDirectory],
) -> None:
    config, run = stopped
    whole, _, _ = checkpoint.load_latest(run.checkpoints)
    resumed = local.LocalRun(config)
    said: dict[tuple[str, ...], str] = {}
    for path in named_parts(whole):
        try:
            resumed.restore(SavedState(without(whole, path), "step_000000600"))
        except BadInput as error:
            said[path] = str(error)
    resumed.close()
    # Nothing else was raised, for any of them.
    assert len(said) > 15
    for (*part, name), sentence in said.items():
        where = f"part '{'/'.join(part)}' of the checkpoint" if part else "the checkpoint"
        lacking = f"{where} step_000000600 has no '{name}': an earlier version"
        # Whole networks are compared by name: that is a sentence, too.
        assert sentence.startswith((lacking, "the checkpoint's set of networks is"))


@pytest.mark.parametrize("missing", ["learner", "experience/version", "counters/updates"])
def test_the_command_line_resumes_an_older_run_with_a_sentence_and_exit_code_2(
    command: Any, missing: str
) -> None:
    first = command(
        *("train", "debug-counting", "--name", "older", "--total_steps", "400"),
        *("--runtime", "local", "--logging.wandb", "disabled", "--evaluation.at_end", "false"),
    )
    assert first.code == 0, first.err
    folder = Path("runs/older/checkpoints")
    state, path, _ = checkpoint.load_latest(folder)
    step = checkpoint.step_of(path)
    checkpoint.save(folder, without(state, tuple(missing.split("/"))), step, 1)
    again = command("train", "--resume", "runs/older", "--total_steps", "800")
    assert again.code == 2
    assert "Traceback" not in again.err
    last = missing.rpartition("/")[2]
    assert f"has no '{last}': an earlier version of Repertory wrote it" in again.err


def test_a_saved_state_survives_the_way_to_another_process() -> None:
    state = SavedState({"learner": {"guide": {"count": 3}}, "rows": [{"a": 1}]}, "step_7")
    arrived = pickle.loads(pickle.dumps(state))
    assert arrived == state
    assert arrived["learner"].get("other") is None
    with pytest.raises(BadInput, match="part 'learner/guide' of the checkpoint step_7 has no 'ot"):
        arrived["learner"]["guide"]["other"]
    with pytest.raises(BadInput, match="part 'rows' of the checkpoint step_7 has no 'b'"):
        arrived["rows"][0]["b"]
    with pytest.raises(BadInput, match="the checkpoint step_7 has no 'counters'"):
        arrived["counters"]
