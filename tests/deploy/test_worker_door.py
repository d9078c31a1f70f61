"""The door of the experience's host: deliveries of one worker pass in their order."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest
from synthetic import batch_of, vector_tasks

from deploy import build
from deploy.cluster import worker_door
from deploy.cluster.worker_door import Published, WorkerDoor
from repertory.config import CountingConfig, LearnerConfig, NetworkConfig, RunConfig
from repertory.ports import Experience
from repertory.types import Unroll, Weights

LANES = 4


class Noting:
    """An experience that also notes in which order deliveries came."""

    def __init__(self, inner: Experience) -> None:
        self.came: list[tuple[int, int]] = []
        self._insert = inner.insert
        inner.insert = self._note  # type: ignore[method-assign]

    def _note(self, unroll: Unroll) -> None:
        self.came.append((unroll.incarnation, unroll.sequence))
        self._insert(unroll)


def door() -> tuple[WorkerDoor, Noting]:
    config = RunConfig(
        tasks=("counting/0", "counting/1"),
        environment=CountingConfig(),
        network=NetworkConfig(torso="mlp"),
        learner=LearnerConfig(batch_size=64, unroll_length=6),
    )
    experience = build.experience(config, build.tasks_of(config))
    noting = Noting(experience)
    made = WorkerDoor(experience, version_delay=0)
    made.publish(Published(Weights(0, np.zeros(0, np.float32)), []))
    made.open()
    return made, noting


def delivery(sequence: int, incarnation: int = 0) -> Unroll:
    unroll = batch_of(vector_tasks(2), columns=LANES)
    return dataclasses.replace(unroll, worker=0, incarnation=incarnation, sequence=sequence)


def test_a_delivery_that_overtook_another_waits_for_it() -> None:
    async def deliver() -> list[tuple[int, int]]:
        subject, noting = door()
        later = [asyncio.create_task(subject.insert(delivery(n))) for n in (3, 2)]
        await asyncio.sleep(0.02)
        assert noting.came == []
        await asyncio.gather(subject.insert(delivery(1)), *later)
        return noting.came

    assert asyncio.run(deliver()) == [(0, 1), (0, 2), (0, 3)]


def test_a_lost_delivery_holds_the_next_one_up_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_door, "IN_TURN_S", 0.05)

    async def deliver() -> list[tuple[int, int]]:
        subject, noting = door()
        await subject.insert(delivery(1))
        await subject.insert(delivery(3))
        await subject.insert(delivery(4))
        return noting.came

    assert asyncio.run(deliver()) == [(0, 1), (0, 3), (0, 4)]


def test_a_replacement_begins_a_count_of_its_own() -> None:
    async def deliver() -> list[tuple[int, int]]:
        subject, noting = door()
        await subject.insert(delivery(1))
        await subject.insert(delivery(2))
        await subject.insert(delivery(1, incarnation=1))
        return noting.came

    assert asyncio.run(deliver()) == [(0, 1), (0, 2), (1, 1)]
