"""Policies of earlier runs: evaluated row by row as their own networks would, and never trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from acting_agents import ACTIONS, SIZE, box_tasks, guided_config, weights_of

from actors.control_policy import ControlPolicy
from actors.guidance import QmpChooser
from repertory.config import ExpertConfig, NetworkConfig, RunConfig
from repertory.errors import BadInput
from repertory.networks.control_agent import ControlAgent, build_agent
from repertory.networks.experts import load_expert
from repertory.networks.flat import load_vector, to_vector
from repertory.networks.task_mlp import TaskMlp
from repertory.seeding import stream

TASKS = 3
HEADS = NetworkConfig(torso="mlp", hidden=7, layers=2, heads="per_task")
CODE = NetworkConfig(torso="mlp", hidden=5, layers=1, conditioning="one_hot")
EXPERTS = (
    ExpertConfig(name="walker", tasks=("walk", "run"), network=HEADS),
    ExpertConfig(name="jumper", tasks=("hop", "leap", "vault"), network=CODE),
)


def config_with(algorithm: str = "sac", kind: str = "ctpg") -> RunConfig:
    experts = tuple(expert.name for expert in EXPERTS)
    return guided_config(algorithm, kind=kind, experts=experts, expert_networks=EXPERTS)


def arrays_of(actor: TaskMlp, seed: int) -> dict[str, np.ndarray]:
    """Draw what an expert's checkpoint would hold."""
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=tensor.shape).astype(np.float32)
        for name, tensor in actor.state_dict().items()
    }


def loaded_agent(algorithm: str = "sac", kind: str = "ctpg") -> ControlAgent:
    agent = build_agent(box_tasks(TASKS), config_with(algorithm, kind), 1)
    for seed, (actor, expert) in enumerate(zip(agent.experts.networks, EXPERTS, strict=True)):
        load_expert(actor, arrays_of(actor, seed), expert.name)
    return agent


def by_hand(agent: ControlAgent, observation: np.ndarray, candidate: int) -> np.ndarray:
    """Evaluate one candidate for one observation in NumPy, one layer after the other."""
    actors = [agent.actor, *agent.experts.networks]
    owners = [(actor, task) for actor in actors for task in range(actor.tasks)]
    actor, task = owners[candidate]
    hidden = observation.astype(np.float64)
    for layer, (weight, bias) in enumerate(zip(actor.weights, actor.biases, strict=True)):
        hidden = hidden @ weight[0].detach().double().numpy() + bias[0, 0].detach().double().numpy()
        if layer == 0 and actor.code is not None:
            hidden = hidden + actor.code[0, task].detach().double().numpy()
        hidden = np.maximum(hidden, 0.0)
    head = task if actor.head_weight.shape[1] > 1 else 0
    outputs: np.ndarray = (
        hidden @ actor.head_weight[0, head].detach().double().numpy()
        + actor.head_bias[0, head, 0].detach().double().numpy()
    )
    return outputs


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_every_row_is_played_by_the_network_of_its_candidate(algorithm: str) -> None:
    agent = loaded_agent(algorithm)
    random = np.random.default_rng(0)
    candidate = random.permutation(np.arange(agent.candidates).repeat(3))
    observation = random.normal(size=(len(candidate), SIZE)).astype(np.float32)
    expected = np.stack(
        [[by_hand(agent, seen, j) for j in range(agent.candidates)] for seen in observation]
    )
    with torch.no_grad():
        chosen = agent.outputs_of(torch.from_numpy(observation), torch.from_numpy(candidate))
        every = agent.every_candidate(torch.from_numpy(observation))
    assert every.shape == (len(candidate), 8, ACTIONS * (2 if algorithm == "sac" else 1))
    np.testing.assert_allclose(every, expected, rtol=1e-4, atol=1e-4)
    rows = np.arange(len(candidate))
    np.testing.assert_allclose(chosen, expected[rows, candidate], rtol=1e-4, atol=1e-4)


def test_candidates_are_the_tasks_and_then_each_expert_s_tasks() -> None:
    agent = loaded_agent()
    assert agent.candidate_names == (
        *("task0", "task1", "task2"),
        *("walker:walk", "walker:run", "jumper:hop", "jumper:leap", "jumper:vault"),
    )
    assert agent.candidates == 8
    assert agent.guide is not None
    assert agent.comparable is not None
    assert agent.guide.outputs == agent.comparable.outputs == 8


def test_experts_are_not_drawn_and_change_nothing_that_is() -> None:
    alone = build_agent(box_tasks(TASKS), guided_config("sac", kind="ctpg"), 1)
    agent = build_agent(box_tasks(TASKS), config_with(), 1)
    for left, right in zip(agent.actor.parameters(), alone.actor.parameters(), strict=True):
        assert torch.equal(left, right)
    for actor in agent.experts.networks:
        assert bool(torch.isnan(actor.head_weight).all())
    assert not any(parameter.requires_grad for parameter in agent.experts.parameters())
    assert agent.actor.head_weight.requires_grad


def test_experts_travel_in_the_flat_vector() -> None:
    agent = loaded_agent()
    other = build_agent(box_tasks(TASKS), config_with(), 2)
    load_vector(other, to_vector(agent))
    for left, right in zip(agent.experts.networks, other.experts.networks, strict=True):
        for name, tensor in left.state_dict().items():
            assert torch.equal(tensor, right.state_dict()[name]), name


def test_a_task_never_trained_on_is_not_played_by_an_expert() -> None:
    agent = loaded_agent()
    alone = build_agent(box_tasks(TASKS), guided_config("sac", kind="ctpg"), 1)
    seen = np.random.default_rng(0).normal(size=(2, SIZE)).astype(np.float32)
    unseen = np.full(2, TASKS, np.int32)
    actions = []
    for one, config in ((agent, config_with()), (alone, guided_config("sac", kind="ctpg"))):
        policy = ControlPolicy(one, config, stream(1), greedy=True)
        policy.load(weights_of(one, 1))
        nothing = np.zeros((2, 0), np.float32)
        actions.append(policy.act(seen, unseen, nothing, np.zeros(2, np.bool_)).action)
    np.testing.assert_array_equal(actions[0], actions[1])
    policy = ControlPolicy(agent, config_with(), stream(1), greedy=True)
    lent, _ = policy.act_as(seen, unseen)
    assert np.abs(lent - actions[0]).max() > 1e-3
    wanted = [np.tanh(by_hand(agent, row, TASKS)[:ACTIONS]) for row in seen]
    np.testing.assert_allclose(lent, wanted, atol=1e-4)


def test_qmp_takes_an_expert_whose_action_the_critic_values_most() -> None:
    agent = loaded_agent(kind="qmp")
    with torch.no_grad():
        # Each policy plays its own number; the critic likes the first action's relu(a).
        for actor, means in (
            (agent.actor, [-0.5, 0.1, 0.3]),
            (agent.experts.networks[0], [0.2, 0.8]),
            (agent.experts.networks[1], [0.4, 0.4, 0.4]),
        ):
            actor.head_weight.zero_()
            actor.head_bias.fill_(-30.0)
            heads = actor.head_bias.shape[1]
            actor.head_bias[0, :, 0, :ACTIONS] = torch.tensor(means[:heads]).atanh()[:, None]
        assert agent.critic is not None
        for tensor in agent.critic.parameters():
            tensor.zero_()
        agent.critic.weights[0][:, SIZE, 0] = 1.0
        agent.critic.head_weight[:, :, 0] = 1.0
    policy = ControlPolicy(agent, config_with(kind="qmp"), stream(1))
    seen, task = np.zeros((4, SIZE), np.float32), np.array([0, 1, 2, 0], np.int32)
    chosen = QmpChooser(policy).choose(seen, task, np.arange(4))
    assert chosen.tolist() == [TASKS + 1] * 4


def test_an_expert_of_another_network_is_refused_by_name() -> None:
    actor = loaded_agent().experts.networks[0]
    arrays = arrays_of(actor, 0)
    with pytest.raises(BadInput) as raised:
        load_expert(actor, arrays | {"head_bias": np.zeros((1, 3, 1, 4), np.float32)}, "walker")
    assert str(raised.value) == (
        "the checkpoint of expert walker is not of the network in its settings: head_bias is "
        "(1, 3, 1, 4) there and (1, 2, 1, 4) here"
    )
    with pytest.raises(BadInput, match=r"code is \(1, 2, 7\) there and absent here"):
        load_expert(actor, arrays | {"code": np.zeros((1, 2, 7), np.float32)}, "walker")
    arrays["head_bias"][0, 1, 0, 2] = np.nan
    with pytest.raises(BadInput, match="expert walker has weights that are not finite"):
        load_expert(actor, arrays, "walker")


def test_experts_that_were_not_opened_at_launch_are_not_forgotten() -> None:
    config = guided_config("sac", kind="ctpg", experts=("somewhere",))
    with pytest.raises(ValueError, match="names 1 runs and 0 were opened"):
        build_agent(box_tasks(TASKS), config, 1)
