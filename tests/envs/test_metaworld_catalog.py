"""Meta-World's names, held against the installed package's."""

from __future__ import annotations

import subprocess
import sys

import pytest
from metaworld.env_dict import MT10_V3, MT50_V3

from envs import registry
from envs.metaworld import catalog
from repertory.config import MetaworldConfig
from repertory.errors import BadInput


def test_the_suites_are_the_package_s_in_its_order() -> None:
    for suite, package in (("mt10", MT10_V3), ("mt50", MT50_V3)):
        names = catalog.expand(f"metaworld/{suite}")
        assert [catalog.package_name(name) for name in names] == list(package)
    assert len(set(catalog.MT50)) == 50


def test_mt1_is_one_task() -> None:
    assert catalog.expand("metaworld/mt1/pick-place") == ("metaworld/pick-place",)
    assert catalog.expand("metaworld/pick-place") == ("metaworld/pick-place",)


def test_every_listed_suite_can_be_expanded() -> None:
    assert [len(catalog.expand(suite)) for suite in catalog.suites()] == [10, 50]


def test_tasks_have_39_numbers_to_see_and_4_to_give() -> None:
    settings = MetaworldConfig()
    specs = registry.task_specs(registry.resolve(["metaworld/mt10"], settings), settings, 0.99)
    assert [spec.index for spec in specs] == list(range(10))
    assert {spec.observation.shape for spec in specs} == {(39,)}
    assert {(spec.action.kind, spec.action.size) for spec in specs} == {("box", 4)}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("metaworld/pick-plce", "pick-place"),
        ("metaworld/reach-v3", "reach"),
        ("metaworld/mt11", "mt10"),
        ("metaworld/mt1/mt10", "mt10"),
        ("metaworld/mt1/puhs", "push"),
        ("metaworld/reach/m0d0", None),
        ("metaworld", None),
    ],
)
def test_a_wrong_name_is_one_sentence_with_the_nearest(name: str, nearest: str | None) -> None:
    with pytest.raises(BadInput) as caught:
        catalog.expand(name)
    message = str(caught.value)
    assert f"'{name}'" in message
    assert "\n" not in message
    if nearest:
        assert f"Did you mean '{nearest}'?" in message


def test_a_suite_is_no_task() -> None:
    with pytest.raises(BadInput, match="suite of 10"):
        catalog.package_name("metaworld/mt10")


def test_names_are_known_without_loading_the_simulator() -> None:
    check = (
        "import sys; from envs.metaworld import catalog; catalog.expand('metaworld/mt50'); "
        "sys.exit(bool({'mujoco', 'metaworld', 'gymnasium'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
