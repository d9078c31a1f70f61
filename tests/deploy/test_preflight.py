"""Preflight: what a run would be, what it would cost, and what to be warned of."""

from __future__ import annotations

import os
import socket

import pytest
import yaml

from deploy import address, placement
from deploy.preflight import check
from repertory.config import (
    ActorConfig,
    AtariConfig,
    CountingConfig,
    LearnerConfig,
    NetworkConfig,
    QueueConfig,
    RunConfig,
)
from repertory.errors import BadInput, ClusterFailure


def counting(tasks: int = 2, **settings) -> RunConfig:
    values = {
        "tasks": tuple(f"counting/{number}" for number in range(tasks)),
        "environment": CountingConfig(),
        "network": NetworkConfig(torso="mlp"),
        "runtime": "local",
        "actors": ActorConfig(count=2, lanes=8),
        "learner": LearnerConfig(batch_size=8),
    }
    return RunConfig(**{**values, **settings})


def test_lanes_are_dealt_evenly_without_a_warning():
    plan = check(counting(tasks=4))
    assert plan.lanes_per_task == (4, 4, 4, 4)
    assert plan.warnings == ()


def test_uneven_lanes_are_warned_of_with_the_tasks_that_get_more():
    plan = check(counting(tasks=3))
    assert sum(plan.lanes_per_task) == 16
    (warning,) = plan.warnings
    assert warning.startswith(
        "16 lanes do not divide evenly over 3 tasks: counting/0 get 6 lanes each, the rest 5"
    )
    assert "actors.lanes 9 would be even" in warning
    assert check(counting(tasks=3, actors=ActorConfig(count=2, lanes=9))).warnings == ()


def test_as_many_lanes_as_tasks_is_enough_and_one_fewer_is_not():
    check(counting(tasks=4, actors=ActorConfig(count=1, lanes=4)))
    with pytest.raises(BadInput, match=r"5 tasks need at least 5 lanes; 1 actors x 4 lanes"):
        check(counting(tasks=5, actors=ActorConfig(count=1, lanes=4)))


def test_the_batch_that_lanes_can_just_fill_passes_and_the_cure_of_the_next_one_works():
    actors = ActorConfig(count=2, lanes=4, max_outstanding=2)
    check(counting(actors=actors, learner=LearnerConfig(batch_size=16)))
    with pytest.raises(BadInput, match=r"raise actors.lanes to 5 or lower learner.batch_size"):
        check(counting(actors=actors, learner=LearnerConfig(batch_size=17)))
    cured = actors.model_copy(update={"lanes": 5})
    check(counting(actors=cured, learner=LearnerConfig(batch_size=17)))


def test_unrolls_that_would_be_too_old_are_warned_of():
    plan = check(counting(queue=QueueConfig(max_policy_lag=3)))
    (warning,) = plan.warnings
    assert warning.startswith("unrolls can be 6 updates old")
    assert check(counting(queue=QueueConfig(max_policy_lag=6))).warnings == ()


def test_more_workers_than_cores_is_a_warning_on_this_machine_only():
    cores = len(os.sched_getaffinity(0))
    actors = ActorConfig(count=cores + 1, lanes=2)
    (warning,) = check(counting(actors=actors, runtime="cluster")).warnings
    assert f"{cores + 1} actors share the {cores} cores" in warning
    assert check(counting(actors=actors, runtime="local")).warnings == ()
    elsewhere = counting(actors=actors, runtime="cluster", address="head:6379")
    assert check(elsewhere, probe_cluster=False).warnings == ()


def test_two_groups_need_two_lanes():
    with pytest.raises(BadInput, match=r"actors.groups 2 needs at least as many actors.lanes"):
        check(counting(tasks=1, actors=ActorConfig(count=4, lanes=1, groups=2)))


def test_memory_grows_with_lanes_batch_and_network_and_counts_every_process():
    base = RunConfig()
    size = check(base).memory

    def grown(**update):
        return check(base.model_copy(update=update)).memory - size

    worker = next(part for part in check(base).parts if part.name == "rollout worker")
    assert grown(actors=ActorConfig(count=4)) >= 2 * worker.memory
    assert grown(actors=ActorConfig(lanes=64)) > 2 * 32 * placement.MIB
    assert grown(learner=LearnerConfig(batch_size=64)) > 0
    assert grown(network=NetworkConfig(torso="impala")) > 2**30
    assert grown(runtime="local") < 0
    assert size == sum(part.total for part in check(base).parts)


def test_a_cluster_is_not_held_to_this_machine_s_memory():
    config = RunConfig(actors=ActorConfig(count=10_000))
    with pytest.raises(BadInput, match=r"the run needs about .* GiB and this machine has"):
        check(config)
    joined = config.model_copy(update={"address": "head:6379"})
    check(joined, probe_cluster=False)


def test_a_listening_address_passes_and_a_closed_one_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        address.probe(f"127.0.0.1:{port}")
    with pytest.raises(ClusterFailure, match=f"host 127.0.0.1, port {port} within 3 s"):
        address.probe(f"127.0.0.1:{port}")


@pytest.mark.parametrize("wrong", ["head", "head:", ":6379", "head:port", "head:0", "head:70000"])
def test_an_address_of_another_form_is_refused(wrong):
    with pytest.raises(BadInput, match=f"address '{wrong}' is not HOST:PORT"):
        address.host_and_port(wrong)


def test_addresses_have_hosts_of_every_kind():
    assert address.host_and_port("head:6379") == ("head", 6379)
    assert address.host_and_port("[::1]:6379") == ("::1", 6379)


def test_a_dry_run_prints_a_config_that_reads_back_the_placement_and_the_memory(command, tmp_path):
    outcome = command(
        *("train", "quickstart", "--dry-run", "--seed=5", "--address", "head:6379"),
        *("--tasks", "atari/breakout/m0d0", "atari/breakout/m4d0", "--held_out=default"),
        *("--actors.count", "2", "--actors.lanes", "32"),
    )
    assert outcome.code == 0
    assert outcome.files == []
    assert "# 2 tasks, 32 lanes each:" in outcome.out
    assert "#   atari/breakout/m24d0" in outcome.out
    assert "cluster, 1 CPU each: 32 lanes" in outcome.out
    assert "# memory, estimated: " in outcome.out
    document = yaml.safe_load(outcome.out)
    assert document["seed"] == 5
    (tmp_path / "again.yaml").write_text(outcome.out)
    again = command("train", "--config", "again.yaml", "--dry-run")
    assert again.out == outcome.out


def test_warnings_go_to_stderr_and_do_not_stop_a_run(command):
    outcome = command(
        *("train", "debug-counting", "--dry-run", "--actors.count", "2", "--actors.lanes", "7"),
        *("--tasks", "counting/0", "counting/1", "counting/2"),
    )
    assert outcome.code == 0
    assert outcome.sentence.startswith("warning: 14 lanes do not divide evenly over 3 tasks")


def test_every_atari_setting_of_a_run_is_described_by_the_plan_s_tasks():
    plan = check(RunConfig(environment=AtariConfig(frame_skip=3, frame_size=42, stack=2)))
    (task,) = plan.tasks
    assert (task.frames_per_step, task.observation.shape, task.observation.stack) == (
        3,
        (42, 42),
        2,
    )
