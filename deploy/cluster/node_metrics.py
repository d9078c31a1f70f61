"""How busy a cluster's nodes are: a small process on each that the driver asks for every row.

Ray's exporter tells Prometheus the same; this puts it beside a run's own metrics, in W&B too.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any, Literal

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deploy.cluster.faults import ANSWER_S
from deploy.cluster.remote_classes import remote_class

log = logging.getLogger(__name__)


class NodeGauge:
    """Reads the node that it runs on."""

    def __init__(self) -> None:
        psutil.cpu_percent(None)
        self._at = time.monotonic()
        self._network = psutil.net_io_counters()

    def read(self) -> dict[str, float]:
        """Return shares in [0, 1] of cores and memory in use, and bytes/s since the last call."""
        now, network = time.monotonic(), psutil.net_io_counters()
        seconds = max(now - self._at, 1e-3)
        values = {
            "cpu": psutil.cpu_percent(None) / 100.0,
            "memory": psutil.virtual_memory().percent / 100.0,
            "sent_bytes_per_s": (network.bytes_sent - self._network.bytes_sent) / seconds,
            "received_bytes_per_s": (network.bytes_recv - self._network.bytes_recv) / seconds,
        }
        self._at, self._network = now, network
        return values


class NodeMetrics:
    """The newest readings of all nodes; nodes that come and go are noticed at every `ask`."""

    def __init__(self, when: Literal["auto", "on", "off"], address: str) -> None:
        self._on = when == "on" or (when == "auto" and bool(address))
        self._gauges: dict[str, Any] = {}
        self._answers: dict[str, Any] = {}
        self._names: dict[str, str] = {}

    def ask(self) -> None:
        """Ask every node for a reading, but for those that have not answered the last one."""
        if not self._on:
            return
        alive = {
            node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]
        }
        for gone in self._gauges.keys() - alive.keys():
            self._drop(gone)
        sharing = Counter(alive.values())
        for node, address in alive.items():
            self._names[node] = address if sharing[address] == 1 else f"{address}-{node[:6]}"
            if node not in self._gauges:
                self._gauges[node] = _gauge_on(node)
            if node not in self._answers:
                self._answers[node] = self._gauges[node].read.remote()

    def take(self) -> dict[str, float]:
        """Return the readings that have come since the last call as `node/<address>/<what>`."""
        if not self._answers:
            return {}
        waiting = {answer: node for node, answer in self._answers.items()}
        ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        metrics: dict[str, float] = {}
        for answer in ready:
            node = waiting[answer]
            del self._answers[node]
            try:
                values = ray.get(answer, timeout=ANSWER_S)
            except ray.exceptions.RayError as error:
                log.warning("node %s is not read: %s", self._names[node], type(error).__name__)
                self._drop(node)
                continue
            metrics |= {f"node/{self._names[node]}/{what}": v for what, v in values.items()}
        return metrics

    def stop(self) -> None:
        """End the readers."""
        for node in list(self._gauges):
            self._drop(node)

    def _drop(self, node: str) -> None:
        self._answers.pop(node, None)
        ray.kill(self._gauges.pop(node), no_restart=True)


def _gauge_on(node: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    # No core of its own: what it reads is what the cores do.
    return remote_class(NodeGauge).options(num_cpus=0, scheduling_strategy=there).remote()
