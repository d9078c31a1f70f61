"""Readings of a cluster's nodes beside a run's metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import ray

from deploy.cluster.node_metrics import NodeMetrics


@pytest.fixture(scope="module")
def one_node() -> Iterator[None]:
    """A cluster of one node on this machine."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20)
    yield
    ray.shutdown()


def taken(nodes: NodeMetrics) -> dict[str, float]:
    """Return the next readings that come."""
    nodes.ask()
    until = time.monotonic() + 60.0
    while time.monotonic() < until:
        if metrics := nodes.take():
            return metrics
        time.sleep(0.05)
    raise AssertionError("no node was read within a minute")


@pytest.mark.usefixtures("one_node")
def test_every_node_is_read_under_its_address() -> None:
    nodes = NodeMetrics("on", "")
    (address,) = {node["NodeManagerAddress"] for node in ray.nodes()}
    metrics = taken(nodes)
    parts = ("cpu", "memory", "sent_bytes_per_s", "received_bytes_per_s")
    assert set(metrics) == {f"node/{address}/{part}" for part in parts}
    assert 0.0 <= metrics[f"node/{address}/cpu"] <= 1.0
    assert 0.0 < metrics[f"node/{address}/memory"] < 1.0
    assert metrics[f"node/{address}/sent_bytes_per_s"] >= 0.0
    nodes.stop()


@pytest.mark.usefixtures("one_node")
def test_a_reader_that_died_is_replaced_and_costs_only_its_reading() -> None:
    nodes = NodeMetrics("on", "")
    assert taken(nodes)
    (gauge,) = nodes._gauges.values()
    ray.kill(gauge, no_restart=True)
    nodes.ask()
    until = time.monotonic() + 60.0
    while nodes._gauges and time.monotonic() < until:
        assert nodes.take() == {}
        time.sleep(0.05)
    assert taken(nodes)
    nodes.stop()


def test_nodes_are_read_by_default_only_where_a_run_joined_a_cluster() -> None:
    nodes = NodeMetrics("auto", "")
    nodes.ask()
    assert nodes.take() == {}
