"""Which node of a cluster learners and their replays come to be on, as Ray tells it afterwards."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from off_policy_runs import counting_control_config
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deploy.cluster import learner_places
from deploy.cluster.learner_places import LearnerPlaces
from deploy.cluster.learners import Learners

# Ray's own class leaves the sockets open that it chose its ports with.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

ANSWER_S = 120.0
STORE = 100 * 2**20


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A head of three cores and a node of six, neither of them labelled."""
    started = Cluster()
    started.add_node(num_cpus=3, object_store_memory=STORE)
    started.add_node(num_cpus=6, object_store_memory=STORE)
    ray.init(address=started.address, log_to_driver=False, logging_level="error")
    yield started
    ray.shutdown()
    started.shutdown()
    del started
    gc.collect()


@ray.remote(num_cpus=1)
class Part:
    """Stands where a learner or a replay would."""

    def node(self) -> str:
        """Return the id of its node."""
        return str(ray.get_runtime_context().get_node_id())


def node_of(actor: Any) -> str:
    """Return the id of an actor's node, as the actor itself knows it."""
    asked = actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())
    return str(ray.get(asked, timeout=ANSWER_S))


def stand(places: LearnerPlaces) -> tuple[list[Any], str, str]:
    """Let two parts take the next room, and return them with their nodes."""
    parts = [Part.options(**options).remote() for options in places.next()]
    learner, replay = ray.get([part.node.remote() for part in parts], timeout=ANSWER_S)
    return parts, learner, replay


def on_node(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Return what puts an actor on that node."""
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def head_id() -> str:
    (head,) = (n["NodeID"] for n in ray.nodes() if "node:__internal_head__" in n["Resources"])
    return str(head)


def test_a_learner_and_its_replay_share_the_heads_node_until_one_is_labelled(
    nodes: Cluster,
) -> None:
    config = counting_control_config(runtime="cluster", address=nodes.address)
    config = config.model_copy(
        update={"replay": config.replay.model_copy(update={"place": "process"})}
    )

    def places() -> set[str]:
        learners = Learners(config, "")
        learners.create(None)
        try:
            return {node_of(learners.first), node_of(learners.door_for(0))}
        finally:
            learners.kill()

    # Ray itself would rather fill the emptier node than use up the last two cores of this one.
    taken = Part.options(scheduling_strategy=on_node(head_id())).remote()
    ray.get(taken.node.remote(), timeout=ANSWER_S)
    assert places() == {head_id()}
    ray.kill(taken)
    labelled = nodes.add_node(num_cpus=2, object_store_memory=STORE, labels={"role": "learner"})
    assert places() == {labelled.node_id}
    nodes.remove_node(labelled)


def test_each_learner_has_its_replay_beside_it_wherever_there_is_room(nodes: Cluster) -> None:
    labelled = nodes.add_node(num_cpus=3, object_store_memory=STORE, labels={"role": "learner"})
    places = LearnerPlaces(0, apart=True)
    parts, found = [], []
    # The labelled node has three cores: its third is of no use to a pair.
    for _ in range(2):
        more, learner, replay = stand(places)
        assert learner == replay
        parts += more
        found.append(learner)
    assert found[0] == labelled.node_id != found[1]
    places.give_back()
    # Who comes next finds the node free again, however late Ray counts it as such.
    places = LearnerPlaces(0, apart=True)
    _, learner, replay = stand(places)
    assert learner == replay == labelled.node_id
    places.give_back()
    nodes.remove_node(labelled)


@pytest.mark.usefixtures("nodes")
def test_without_a_node_that_holds_both_they_are_apart_and_the_user_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(learner_places, "ROOM_S", 0.5)
    # One core is left on each node.
    taken = [
        Part.options(
            num_cpus=int(node["Resources"]["CPU"]) - 1,
            scheduling_strategy=on_node(node["NodeID"]),
        ).remote()
        for node in ray.nodes()
        if node["Alive"]
    ]
    ray.get([part.node.remote() for part in taken], timeout=ANSWER_S)
    with caplog.at_level(logging.WARNING):
        _, learner, replay = stand(LearnerPlaces(0, apart=True))
    assert learner != replay
    (said,) = caplog.messages
    assert "no node has two cores free" in said
