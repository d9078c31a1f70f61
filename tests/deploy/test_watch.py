"""Films show what is played: the right pictures, numbers, values and guides, from any run.

Axes: T steps, T1 = T + 1, L lanes.
"""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from films import read
from off_policy_runs import pointmass_config
from small_runs import atari_config, counting_config, new_run

from actors.stacking import RollingStack
from deploy import build, cluster, local
from deploy.evaluation import evaluate_weights
from deploy.saved_agent import SavedAgent, saved_agent
from deploy.video.films import film, films_of
from deploy.video.grid import Grid
from deploy.video.panel import Panel, number
from deploy.video.screening import Moment, Screening
from deploy.video.values import values_of
from envs import point_mass
from envs.counting import CountingLanes
from envs.point_mass import PointMassLanes
from repertory.config import EvaluationConfig, GuideConfig, LoggingConfig, RunConfig, SacConfig
from repertory.errors import BadInput
from repertory.networks.control_agent import split_gaussian
from repertory.networks.flat import load_vector, to_vector
from repertory.types import Weights

GUIDE = GuideConfig(kind="ctpg", step=3, filter_from=10, block="none")


def trained(root: Path, config: RunConfig, steps: int) -> Path:
    """Train a little, and return the run's directory."""
    run = new_run(root, config)
    local.train(config, run, False, after_round=lambda r: r.experience.steps >= steps)
    return run.path


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guided run of three point masses."""
    config = pointmass_config(SacConfig(exploration_steps=20, guide=GUIDE), saved=False)
    return trained(tmp_path_factory.mktemp("guided"), config, 300)


@pytest.fixture(scope="module")
def unguided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose actors hold no critic."""
    config = pointmass_config(SacConfig(exploration_steps=20), saved=False)
    return trained(tmp_path_factory.mktemp("unguided"), config, 300)


def opened(path: Path, *, with_critic: bool = True) -> tuple[RunConfig, SavedAgent]:
    from repertory.run_directory import RunDirectory

    run = RunDirectory.open(path)
    return run.read_config()[0], saved_agent(run, with_critic=with_critic)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """Counting tasks, whose episodes are of 7, 8 and 9 steps, with the count for a picture."""

    def rgb(self: CountingLanes, lane: int) -> np.ndarray:
        task, _, step = self.observed(lane)
        picture = np.zeros((8, 6, 3), np.uint8)
        picture[..., 0], picture[..., 1] = 10 * task, 20 * step
        return picture

    def observed(self: CountingLanes, lane: int) -> list[int]:
        state = self.state()
        return [int(self.task[lane]), int(state["episode"][lane]), int(state["step"][lane])]

    monkeypatch.setattr(CountingLanes, "rgb", rgb, raising=False)
    monkeypatch.setattr(CountingLanes, "observed", observed, raising=False)
    return counting_config()


def test_tasks_that_are_done_wait_with_their_last_picture_for_the_others(counted):
    names = ["counting/0", "counting/2"]
    screening = Screening(counted, None, names, policy_name="random", seed=1, max_steps=50)
    shown = [[moment.step for moment in moments] for moments in screening.moments()]
    assert shown == [[t, t] for t in range(7)] + [[7, 7], [7, 8], [7, 9]]
    assert [[record.length for record in records] for records in screening.records] == [[7], [9]]


def test_a_picture_is_of_the_step_that_stands_beside_it(counted):
    screening = Screening(counted, None, ["counting/1"], policy_name="random", seed=1, max_steps=50)
    expected_return = 0
    for (moment,) in screening.moments():
        assert moment.picture[0, 0].tolist() == [10, 20 * moment.step, 0]
        expected_return += moment.step - 1 if moment.step else 0
        assert moment.return_so_far == expected_return
        assert moment.over == (moment.step == 8)
    assert screening.records[0][0].raw_return == expected_return


def test_episodes_follow_one_another_and_each_end_is_held(counted):
    screening = Screening(
        counted,
        None,
        ["counting/0"],
        policy_name="random",
        seed=1,
        max_steps=50,
        episodes=2,
        hold=2,
    )
    shown = [(moment.episode, moment.step) for (moment,) in screening.moments()]
    once = [*range(8), 7, 7]
    assert shown == [(0, step) for step in once] + [(1, step) for step in once]


def test_steps_that_are_left_out_never_leave_out_an_end(counted):
    screening = Screening(
        counted, None, ["counting/0"], policy_name="random", seed=1, max_steps=50, episodes=2
    )
    ends = [moment.episode for (moment,) in screening.moments(every=5) if moment.over]
    assert sorted(set(ends)) == [0, 1]


def test_an_episode_is_cut_at_the_limit_and_says_so(counted):
    screening = Screening(counted, None, ["counting/2"], policy_name="random", seed=1, max_steps=4)
    assert len(list(screening.moments())) == 5
    (record,) = screening.records[0]
    assert (record.length, record.truncated) == (4, True)


def test_a_film_shows_the_episodes_that_evaluation_counts(unguided):
    config, agent = opened(unguided)
    names = [task.name for task in build.tasks_of(config)]
    scores = evaluate_weights(config, agent.weights, names, episodes=2, policies=["greedy"], seed=5)
    screening = Screening(
        config, agent, names, policy_name="greedy", seed=5, max_steps=100, episodes=2
    )
    list(screening.moments())
    for score, records in zip(scores, screening.records, strict=True):
        assert score.successes == tuple(record.success for record in records)
        assert [r.raw_return for r in records] == pytest.approx(list(score.returns), rel=1e-5)


def test_success_is_shown_from_the_step_that_brought_it(unguided, monkeypatch):
    config, _ = opened(unguided)
    monkeypatch.setattr(point_mass, "SPEED", 3.0)
    seen = set()
    for seed in range(20):
        screening = Screening(
            config, None, ["pointmass/door"], policy_name="random", seed=seed, max_steps=100
        )
        course = [moments[0].success for moments in screening.moments()]
        assert course == sorted(course)
        assert course[-1] == screening.records[0][0].success
        seen.add((course[0], course[-2], course[-1]))
    assert (False, True, True) in seen
    assert (False, False, False) in seen


def test_the_guide_that_acts_is_named_and_changes_only_when_a_choice_is_due(guided):
    config, agent = opened(guided)
    names = [task.name for task in build.tasks_of(config)]
    screening = Screening(
        config, agent, names, policy_name="guided", seed=3, max_steps=100, episodes=6
    )
    guides = [moments[0] for moments in screening.moments() if not moments[0].over]
    assert {moment.guide for moment in guides} > {names[0]}
    for before, after in itertools.pairwise(guides):
        if after.step % GUIDE.step:
            assert after.guide == before.guide
    own = Screening(config, agent, names, policy_name="greedy", seed=3, max_steps=4)
    for moments in own.moments():
        assert [moment.guide for moment in moments] == names


def test_who_cannot_be_guided_is_refused(unguided):
    config, agent = opened(unguided)
    with pytest.raises(BadInput, match="needs a run with a guide, and this one has none"):
        Screening(config, agent, ["pointmass/door"], policy_name="guided", seed=1, max_steps=9)


def test_values_of_a_value_head_are_those_that_the_learner_computes():
    config = atari_config(actors=atari_config().actors.model_copy(update={"precision": "fp32"}))
    tasks = build.tasks_of(config)
    network = build.network(config, tasks)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        network.value.mu.copy_(torch.tensor([3.0, -2.0]))
        network.value.sigma.copy_(torch.tensor([5.0, 0.5]))
    agent = SavedAgent(Weights(1, to_vector(network)), 0, "test")
    values = values_of(config, tasks, agent)
    policy = build.acting_policy(config, tasks, np.random.default_rng(1), greedy=True)
    policy.load(agent.weights)

    random = np.random.default_rng(2)
    frames = random.integers(0, 255, (5, 2, 84, 84), np.uint8)
    task = np.array([1, 0], np.int32)
    stack, recurrent = RollingStack(tasks[0].observation, 2), np.zeros((2, 16), np.float32)
    step_by_step = []
    for t in range(5):
        started = np.full(2, t == 0)
        stack.push(frames[t], started)
        step_by_step.append(values.of(stack.network_input, task, recurrent, started))
        recurrent = policy.act(stack.network_input, task, recurrent, started).recurrent
    history = np.repeat(frames[:1], 3, 0)
    age = torch.arange(5, dtype=torch.uint8).unsqueeze(1).expand(-1, 2)
    with torch.no_grad():
        _, at_once = network.unroll(
            torch.from_numpy(np.concatenate([history, frames])),
            age,
            torch.from_numpy(task),
            torch.zeros(2, 16),
        )
    np.testing.assert_allclose(np.stack(step_by_step), at_once.numpy(), rtol=1e-4, atol=1e-4)


def test_values_of_critics_are_the_smaller_twins_at_the_greedy_action(guided, unguided):
    for path in (guided, unguided):
        config, agent = opened(path)
        assert (agent.critic is None) == (path == guided)
        tasks = build.tasks_of(config)
        control = build.control_agent(config, tasks)
        load_vector(control, agent.weights.vector)
        seen = np.random.default_rng(4).normal(size=(3, 2)).astype(np.float32)
        task = np.array([2, 0, 1], np.int32)
        found = values_of(config, tasks, agent).of(
            seen, task, np.zeros((3, 0), np.float32), np.ones(3, np.bool_)
        )
        critic = control.critic
        if critic is None:
            critic = local.LocalRun(config).learner._update.critic
            critic.load_state_dict({k: torch.tensor(v) for k, v in agent.critic.tensors.items()})
        for row in range(3):
            one, index = (
                torch.from_numpy(seen[row : row + 1]),
                torch.from_numpy(task[row : row + 1]),
            )
            with torch.no_grad():
                mean = split_gaussian(control.actor.forward(one, index)[0])[0]
                twins = critic.forward(torch.cat([one, mean.tanh()], 1), index)[:, 0, 0]
            assert found[row] == pytest.approx(min(twins.tolist()), rel=1e-5)
            assert twins[0] != twins[1]


def test_without_its_critic_an_agent_has_no_values(unguided):
    config, agent = opened(unguided, with_critic=False)
    assert values_of(config, build.tasks_of(config), agent) is None


def moment(**changes: object) -> Moment:
    """Return a moment of a film."""
    settings: dict[str, object] = {
        "task": "metaworld/button-press-topdown-wall",
        "episode": 0,
        "step": 3,
        "picture": np.full((105, 80, 3), 90, np.uint8),
        "return_so_far": 12.5,
        "value": 1.25,
        "guide": "metaworld/reach",
        "success": None,
        "over": False,
    }
    return Moment(**(settings | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"return_so_far": 13.5},
        {"value": 2.0},
        {"guide": "metaworld/push"},
        {"success": True},
        {"step": 4},
        {"over": True},
        {"task": "metaworld/reach"},
    ],
)
def test_whatever_changes_is_seen_in_the_panel(changes):
    assert not np.array_equal(
        Panel(420, "greedy").draw(moment()), Panel(420, "greedy").draw(moment(**changes))
    )


@pytest.mark.parametrize("height", [210, 240, 420])
def test_nothing_in_a_panel_is_cut_off(height):
    panel = Panel(height, "sampled")
    long_names = {"guide": "metaworld/" + 12 * "button-", "return_so_far": -1234567.89}
    for step in range(200):
        drawn = panel.draw(moment(step=step, value=-1e5 * step, success=False, **long_names))
        border = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
        assert (border == drawn[0, 0]).all()


def test_where_another_policy_acted_the_curve_has_another_colour():
    lent = np.array([255, 184, 92])
    drawn = []
    for own in (True, False):
        panel = Panel(420, "guided")
        for step in range(40):
            name = "button-press-topdown-wall" if own or step < 20 else "reach"
            picture = panel.draw(
                moment(step=step, value=float(step % 7), guide=f"metaworld/{name}")
            )
        curve = picture[200:380]
        # Lines have soft edges.
        near = np.abs(curve.astype(int) - lent).sum(-1) < 120
        drawn.append(np.argwhere(near)[:, 1])
    assert drawn[0].size == 0
    # The second half of the steps so far, which take forty fiftieths of the width.
    assert drawn[1].size > 20
    assert drawn[1].min() > 0.35 * picture.shape[1]


def test_a_long_episode_keeps_its_curve_short():
    panel = Panel(210, "greedy")
    for step in range(3000):
        panel._remember(moment(step=step, value=1.0))
    assert len(panel._curve) <= 2 * panel.width
    assert panel._curve[0].step == 0
    assert panel._curve[-1].step > 2900


def test_pictures_of_all_sizes_share_a_grid_enlarged_by_whole_numbers():
    grid = Grid("greedy", panel=False, scale=3)
    small = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
    large = np.full((6, 4, 3), 200, np.uint8)
    whole = grid.draw([moment(picture=small), moment(picture=large)])
    assert whole.shape == (18, 28, 3)
    assert (whole[:, 16:] == 200).all()
    np.testing.assert_array_equal(whole[3:15, 3:9], small.repeat(3, 0).repeat(3, 1))
    assert (whole[:, 12:16] == 0).all()


def test_a_grid_of_many_cells_has_the_shape_of_a_screen():
    grid = Grid("greedy")
    height, width, _ = grid.draw([moment() for _ in range(12)]).shape
    assert 1.2 < width / height < 2.6


def test_numbers_are_written_briefly():
    given = [0.0, 3.0, -12.0, 0.12345, 12.345, 1234.56, 1e9, float("nan")]
    shown = [number(value) for value in given]
    assert shown == ["0", "3", "-12", "0.12", "12.35", "1,235", "1e+09", "nan"]


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_several_tasks_of_a_run_are_filmed_into_one_file(command, guided, ending):
    outcome = command(
        *("watch", str(guided), "--tasks", "pointmass/mt3", "--video", f"all.{ending}"),
        *("--policy", "guided", "--episodes", "2", "--max-steps", "20"),
    )
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert len(lines) == 6
    assert all("in 9 steps" in line and "success; " in line for line in lines)
    shown = read(Path(f"all.{ending}"))
    # Two episodes of nine steps and an end, held for a second each.
    assert len(shown.pictures) == 2 * (10 + 15)
    assert ("gif" in shown.description) == (ending == "gif")


def test_too_many_tasks_for_a_picture_are_refused(tmp_path):
    names = [f"counting/{index}" for index in range(65)]
    with pytest.raises(BadInput, match="65 tasks are too many for one film: name at most 64"):
        film(counting_config(), None, names, tmp_path / "a.mp4", seed=1, max_steps=3)


def test_runs_film_a_few_tasks_at_each_evaluation_and_show_them_in_wandb(tmp_path):
    config = pointmass_config(
        SacConfig(exploration_steps=20),
        saved=False,
        total_steps=240,
        evaluation=EvaluationConfig(every_steps=120, at_end=False, episodes=1, videos=2),
        logging=LoggingConfig(wandb="offline"),
    )
    run = new_run(tmp_path, config)
    local.train(config, run, False)
    found = sorted(path.name.partition("-")[2] for path in run.videos.iterdir())
    names = [task.name.replace("/", "-") + ".mp4" for task in build.tasks_of(config)]
    # Two of three tasks each time, in turn.
    assert found == sorted([*names, names[2]])
    for path in run.videos.iterdir():
        shown = read(path)
        assert shown.size == (480 + Panel(480, "greedy").width, 480)
    logged = list((run.path / "wandb").glob("offline-run-*/files/media/videos/eval/video/**/*.mp4"))
    assert len(logged) == 4


@pytest.mark.slow
def test_evaluation_workers_film_on_ray_too(tmp_path):
    config = pointmass_config(
        SacConfig(exploration_steps=20, guide=GUIDE),
        saved=False,
        runtime="cluster",
        tasks=("pointmass/door", "pointmass/corner"),
        total_steps=300,
        evaluation=EvaluationConfig(at_end=True, episodes=1, videos=2),
        logging=LoggingConfig(wandb="disabled", every_s=0.5),
    )
    run = new_run(tmp_path, config)
    assert cluster.train(config, run, False) == 0
    (door, corner) = sorted(run.videos.iterdir(), reverse=True)
    assert "pointmass-door" in door.name
    assert "pointmass-corner" in corner.name
    for path in (door, corner):
        shown = read(path)
        # Nine steps, the end, and a second of it.
        assert len(shown.pictures) == 10 + 15
        assert shown.size == (480 + Panel(480, "greedy").width, 480)


def test_whatever_fails_while_drawing_costs_the_film_alone(unguided, monkeypatch, caplog):
    config, agent = opened(unguided)
    config = config.model_copy(update={"evaluation": EvaluationConfig(videos=1)})

    def broken(*_: object) -> np.ndarray:
        raise RuntimeError("the driver went away")

    monkeypatch.setattr(PointMassLanes, "rgb", broken)
    with caplog.at_level(logging.WARNING):
        films = films_of(config, agent.weights, ["pointmass/door"], seed=1, env_steps=0)
    assert films == []
    assert "no film of pointmass/door: RuntimeError: the driver went away" in caplog.text
