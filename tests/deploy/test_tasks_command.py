"""`repertory tasks` lists the tasks of every suite, not only Atari's."""

from __future__ import annotations

import pytest

from deploy.commands import tasks
from envs import registry
from repertory.errors import BadInput


def test_every_suite_that_is_listed_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    others = [name for name in registry.list_suites() if not name.startswith("atari")]
    assert {name.split("/")[0] for name in others} >= {"metaworld", "halfcheetah", "pointmass"}
    for name in others:
        assert tasks.run([name]) == 0
        shown = capsys.readouterr().out.split()
        assert len(shown) > 1
        assert len(set(shown)) == len(shown)


def test_a_suite_shows_its_tasks_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert tasks.run(["metaworld/mt10"]) == 0
    shown = capsys.readouterr().out.split()
    assert len(shown) == 10
    assert shown[:3] == ["metaworld/reach", "metaworld/push", "metaworld/pick-place"]


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(BadInput, match="mt10"):
        tasks.run(["metaworld/mt11"])
