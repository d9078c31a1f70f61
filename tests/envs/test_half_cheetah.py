"""HalfCheetah variants are Gymnasium's HalfCheetah-v5 with an edited body, to the last bit."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from xml.etree import ElementTree

import gymnasium
import mujoco
import numpy as np
import pytest

from envs import offscreen, registry
from envs.half_cheetah import bodies, catalog
from envs.half_cheetah.lanes import HalfCheetahLanes
from repertory import checkpoint, seeding
from repertory.config import HalfCheetahConfig
from repertory.errors import BadInput, EnvironmentFailure
from repertory.ports import Lanes

GRAVITY = {
    "gravity-half": "0 0 -4.905",
    "gravity-three-quarters": "0 0 -7.3575",
    "gravity-normal": "0 0 -9.81",
    "gravity-one-and-quarter": "0 0 -12.2625",
    "gravity-one-and-half": "0 0 -14.715",
}
PARTS = {
    "torso": {"torso"},
    "thigh": {"fthigh", "bthigh"},
    "leg": {"fshin", "bshin"},
    "foot": {"ffoot", "bfoot"},
}
MASS_RATIOS = {
    # Compiled with MuJoCo 3.3.0: of the changed parts, of all others.
    "big-torso": (1.2022, 0.8369),
    "small-torso": (0.7839, 1.1743),
    "big-thigh": (1.6236, 0.8313),
    "small-thigh": (0.4811, 1.1404),
    "big-leg": (1.6415, 0.8405),
    "small-leg": (0.4768, 1.1301),
    "big-foot": (1.7211, 0.8812),
    "small-foot": (0.4594, 1.0890),
}


def edited(variant: str, folder: Path) -> Path:
    """Write half_cheetah.xml with the variant's gravity or sizes, edited as text."""
    tree = ElementTree.parse(bodies.source())
    if variant in GRAVITY:
        option = tree.find("option")
        assert option is not None
        option.set("gravity", GRAVITY[variant])
    else:
        size, part = variant.split("-")
        factor = {"big": 1.25, "small": 0.75}[size]
        for geom in tree.iter("geom"):
            if geom.get("name") in PARTS[part]:
                numbers = [float(number) * factor for number in geom.attrib["size"].split()]
                geom.set("size", " ".join(repr(number) for number in numbers))
    path = folder / f"{variant}.xml"
    tree.write(path)
    return path


def make(
    names: list[str], *, seed: int = 1, assignment: list[int] | None = None, **settings: object
) -> Lanes:
    environment = HalfCheetahConfig.model_validate(settings)
    specs = registry.task_specs([f"halfcheetah/{name}" for name in names], environment, 0.99)
    lanes = list(range(len(names))) if assignment is None else assignment
    return registry.make_lanes(environment, specs, lanes, seed=seed, path=("actor", 0))


def actions(count: int, lanes: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1.0, 1.0, (count, lanes, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "variants",
    [
        ["gravity-normal", "gravity-half", "big-torso"],
        ["gravity-one-and-quarter", "small-thigh", "big-leg", "small-foot"],
    ],
)
def test_lanes_step_and_reset_like_gymnasium_bit_for_bit(
    variants: list[str], tmp_path: Path
) -> None:
    horizon, seed = 120, 5
    lanes = make(variants, seed=seed, horizon=horizon)
    theirs = []
    for lane, variant in enumerate(variants):
        environment = gymnasium.make(
            "HalfCheetah-v5",
            xml_file=str(edited(variant, tmp_path)),
            max_episode_steps=horizon,
            disable_env_checker=True,
        )
        environment.unwrapped.np_random = seeding.stream(seed, "actor", 0, "lane", lane)
        theirs.append(environment)
    first = lanes.reset()
    for lane, environment in enumerate(theirs):
        assert np.array_equal(first[lane], environment.reset()[0].astype(np.float32))
    returns = np.zeros(len(variants))
    for step, action in enumerate(actions(3 * (horizon + 1), len(variants))):
        result = lanes.step(action)
        assert result.observation.dtype == np.float32
        resets = step % (horizon + 1) == horizon
        assert result.started.tolist() == (~result.valid).tolist() == [resets] * len(variants)
        for lane, environment in enumerate(theirs):
            if resets:
                observation = environment.reset()[0]
                assert result.reward[lane] == 0.0
                returns[lane] = 0.0
            else:
                observation, reward, terminated, truncated, _ = environment.step(action[lane])
                returns[lane] += reward
                assert result.reward[lane] == np.float32(reward)
                assert result.terminated[lane] == terminated == False  # noqa: E712
                assert result.truncated[lane] == truncated
            assert np.array_equal(result.observation[lane], observation.astype(np.float32))
        if result.truncated.any():
            assert [record.raw_return for record in result.episodes] == returns.tolist()
            assert {record.length for record in result.episodes} == {horizon}
            assert all(record.success is None and record.truncated for record in result.episodes)
    for environment in theirs:
        environment.close()


@pytest.mark.parametrize("variant", catalog.VARIANTS)
def test_every_variant_compiles_to_the_model_of_its_edited_file(
    variant: str, tmp_path: Path
) -> None:
    ours = bodies.build(catalog.VARIANTS[variant], "geometry")
    theirs = mujoco.MjModel.from_xml_path(str(edited(variant, tmp_path)))
    for field in [
        "body_mass",
        "body_inertia",
        "body_pos",
        "body_ipos",
        "body_iquat",
        "geom_size",
        "geom_rbound",
        "geom_pos",
        "geom_friction",
        "jnt_range",
        "jnt_stiffness",
        "dof_damping",
        "dof_armature",
        "actuator_gear",
    ]:
        assert np.array_equal(getattr(ours, field), getattr(theirs, field)), field
    assert np.array_equal(ours.opt.gravity, theirs.opt.gravity)
    assert ours.opt.timestep == theirs.opt.timestep == 0.01


@pytest.mark.parametrize("variant", MASS_RATIOS)
def test_scaled_parts_gain_or_lose_mass_at_the_others_cost(variant: str) -> None:
    model = bodies.build(catalog.VARIANTS[variant], "geometry")
    changed, others = MASS_RATIOS[variant]
    for body, mass in base_masses().items():
        expected = changed if body in PARTS[variant.split("-")[1]] else others
        assert model.body(body).mass[0] / mass == pytest.approx(expected, abs=6e-5), body
    assert model.body_mass.sum() == pytest.approx(14.0)


def test_the_literal_reading_scales_radius_and_mass_and_nothing_else() -> None:
    base = bodies.build(catalog.Variant(), "geometry")
    big = bodies.build(catalog.VARIANTS["big-leg"], "literal")
    for body, mass in base_masses().items():
        factor = 1.25 if body in PARTS["leg"] else 1.0
        assert big.body(body).mass[0] == pytest.approx(factor * mass, rel=1e-5), body
        assert big.geom(body).size[0] == factor * 0.046, body
        assert big.geom(body).size[1] == base.geom(body).size[1], body
    # The head is part of the torso's body, but not of the torso.
    torso = bodies.build(catalog.VARIANTS["big-torso"], "literal")
    assert torso.geom("head").size[0] == 0.046
    assert 1.0 < torso.body("torso").mass[0] / base_masses()["torso"] < 1.25


def base_masses() -> dict[str, float]:
    return {
        "torso": 6.25021,
        "bthigh": 1.54351,
        "bshin": 1.58745,
        "bfoot": 1.09540,
        "fthigh": 1.43808,
        "fshin": 1.20084,
        "ffoot": 0.88452,
    }


def test_body_scaling_reaches_the_simulation() -> None:
    observations = []
    for scaling in ("geometry", "literal"):
        lanes = make(["big-foot"], body_scaling=scaling)
        lanes.reset()
        for action in actions(20, 1):
            last = lanes.step(action).observation
        observations.append(last)
    assert not np.array_equal(*observations)


@pytest.mark.parametrize("cut", [7, 29, 30, 31])
def test_saved_lanes_go_on_bit_for_bit(cut: int, tmp_path: Path) -> None:
    names = ["gravity-one-and-half", "small-torso"]
    lanes, other = make(names, horizon=30), make(names, horizon=30, seed=2)
    lanes.reset()
    other.reset()
    sequence = actions(90, 2)
    for action in sequence[:cut]:
        lanes.step(action)
    other.restore(checkpoint.load(checkpoint.save(tmp_path, lanes.state(), step=0, keep=1)))
    for action in sequence[cut:]:
        result, again = lanes.step(action), other.step(action)
        assert np.array_equal(result.observation, again.observation)
        assert np.array_equal(result.reward, again.reward)
        assert np.array_equal(result.started, again.started)
        assert result.episodes == again.episodes
        # A lost warm start of the solver shows in float64 first.
        for physics, same in zip(lanes.state()["physics"], other.state()["physics"], strict=True):
            assert np.array_equal(physics, same)


def test_a_state_of_other_tasks_or_another_horizon_is_refused() -> None:
    lanes = make(["big-foot"])
    lanes.reset()
    with pytest.raises(BadInput, match="these lanes play"):
        make(["big-leg"]).restore(lanes.state())
    with pytest.raises(BadInput, match="a horizon of 1000 steps, these lanes one of 9"):
        make(["big-foot"], horizon=9).restore(lanes.state())


def test_lanes_of_one_task_start_differently_and_the_seed_decides_how() -> None:
    first = make(["big-foot"], assignment=[0, 0]).reset()
    assert not np.array_equal(first[0], first[1])
    assert np.array_equal(first, make(["big-foot"], assignment=[0, 0]).reset())
    assert not np.array_equal(first, make(["big-foot"], assignment=[0, 0], seed=2).reset())


def test_wrong_actions_name_the_task_and_the_lane() -> None:
    lanes = make(["big-foot", "small-foot"])
    lanes.reset()
    action = np.zeros((2, 6), dtype=np.float32)
    action[1, 3] = np.nan
    with pytest.raises(EnvironmentFailure) as caught:
        lanes.step(action)
    assert str(caught.value) == (
        "halfcheetah/small-foot (lane 1): number 3 of the action is nan, not in [-1, 1]."
    )
    with pytest.raises(EnvironmentFailure, match=r"need float32 actions of shape \(2, 6\)"):
        lanes.step(np.zeros((2, 5), dtype=np.float32))
    with pytest.raises(EnvironmentFailure, match="got float64"):
        lanes.step(np.zeros((2, 6)))


def test_an_unstable_simulation_names_the_task_and_the_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where mujoco writes its log of warnings.
    monkeypatch.chdir(tmp_path)
    lanes = make(["big-foot", "small-foot"])
    lanes.reset()
    state = lanes.state()
    state["physics"][1][3] = np.inf
    lanes.restore(state)
    with pytest.raises(EnvironmentFailure) as caught:
        lanes.step(np.zeros((2, 6), dtype=np.float32))
    assert str(caught.value) == (
        "halfcheetah/small-foot (lane 1): the simulation became unstable at step 0 of its episode."
    )


def test_groups_are_in_the_order_of_the_paper() -> None:
    settings = HalfCheetahConfig()
    assert registry.resolve(["halfcheetah/mt5"], settings) == tuple(
        f"halfcheetah/gravity-{name}"
        for name in ("normal", "half", "three-quarters", "one-and-half", "one-and-quarter")
    )
    assert registry.resolve(["halfcheetah/mt8"], settings) == tuple(
        f"halfcheetah/{size}-{part}"
        for part in ("torso", "thigh", "leg", "foot")
        for size in ("big", "small")
    )
    assert registry.resolve(["halfcheetah/small-leg"], settings) == ("halfcheetah/small-leg",)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("halfcheetah/big-foo", "Did you mean 'halfcheetah/big-foot'?"),
        ("halfcheetah/mt55", "Did you mean 'halfcheetah/mt5'?"),
        ("halfcheetah", "Available: halfcheetah/mt5, halfcheetah/mt8, halfcheetah/gravity-normal"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(BadInput) as caught:
        registry.resolve([name], HalfCheetahConfig())
    assert str(caught.value).startswith(f"unknown task '{name}'.")
    assert hint in str(caught.value)


def test_looking_up_names_loads_no_simulator() -> None:
    program = (
        "import sys; from envs.half_cheetah import catalog; catalog.expand('halfcheetah/mt5')\n"
        "print([name for name in ('mujoco', 'gymnasium', 'torch') if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_drawing_a_lane_shows_it_and_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    lanes, other = make(["gravity-half"]), make(["gravity-half"])
    assert isinstance(lanes, HalfCheetahLanes)
    assert np.array_equal(lanes.reset(), other.reset())
    try:
        picture = lanes.rgb(0)
    except BadInput as error:
        pytest.skip(str(error))
    assert (picture.shape, picture.dtype) == ((240, 320, 3), np.uint8)
    for action in actions(30, 1):
        result, again = lanes.step(action), other.step(action)
        assert np.array_equal(result.observation, again.observation)
    assert not np.array_equal(lanes.rgb(0), picture)
    lanes.close()


def test_without_egl_and_osmesa_drawing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(offscreen, "find_library", lambda _: None)
    lanes = make(["gravity-half"])
    assert isinstance(lanes, HalfCheetahLanes)
    lanes.reset()
    with pytest.raises(BadInput) as caught:
        lanes.rgb(0)
    assert str(caught.value) == (
        "cannot draw: neither EGL nor OSMesa is on this machine. Install EGL (apt install libegl1 "
        "libgl1-mesa-dri) and set MUJOCO_GL=egl, or OSMesa (apt install libosmesa6) and set "
        "MUJOCO_GL=osmesa."
    )


def test_graphics_that_do_not_start_end_in_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDriver:
        def __init__(self, *_size: int) -> None:
            raise RuntimeError("no driver")

    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(
        offscreen, "import_module", lambda _: types.SimpleNamespace(GLContext=NoDriver)
    )
    monkeypatch.setattr(mujoco.gl_context, "GLContext", mujoco.gl_context.GLContext)
    lanes = make(["gravity-half"])
    assert isinstance(lanes, HalfCheetahLanes)
    lanes.reset()
    with pytest.raises(BadInput) as caught:
        lanes.rgb(0)
    assert str(caught.value).startswith(
        "cannot draw with osmesa (RuntimeError: no driver). Install EGL"
    )
