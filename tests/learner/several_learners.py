"""Learners of one run in processes of their own: what the tests of several learners start."""

from __future__ import annotations

import os
import queue
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing

from learner.parallel.processes import ProcessExchange

TIMEOUT_S = 60.0
DEADLINE_S = 180.0


def together(
    work: Callable[..., Any], *arguments: Any, learners: int = 2, timeout_s: float = TIMEOUT_S
) -> list[Any]:
    """Return what `work(exchange, *arguments)` returns in each of several processes.

    `work` is a function of a module; what it returns can be pickled. A process that ends without a
    word, as those do that a test ends on purpose, gives None.
    """
    context = torch.multiprocessing.get_context("spawn")
    answers, ports, all_there = context.Queue(), context.Queue(), context.Barrier(learners)
    processes = [
        context.Process(
            target=_work,
            args=(rank, learners, timeout_s, all_there, ports, answers, work, arguments),
        )
        for rank in range(learners)
    ]
    for process in processes:
        process.start()
    found: list[Any] = [None] * learners
    deadline = time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < deadline:
            # Looked at before the queue: whoever has ended has put there what it had.
            ended = all(process.exitcode is not None for process in processes)
            try:
                rank, answer, failure = answers.get(timeout=0.2)
            except queue.Empty:
                if ended:
                    return found
                continue
            assert failure is None, failure
            found[rank] = answer
        raise AssertionError("a learner does not end")
    finally:
        for process in processes:
            process.kill()


def _work(
    rank: int,
    learners: int,
    timeout_s: float,
    all_there: Any,
    ports: Any,
    answers: Any,
    work: Callable[..., Any],
    arguments: Any,
) -> None:
    torch.set_num_threads(1)
    exchange = ProcessExchange(rank, learners, torch.device("cpu"), timeout_s)
    try:
        if rank == 0:
            port = exchange.open_door("127.0.0.1")
            for _ in range(learners - 1):
                ports.put(port)
        else:
            port = ports.get(timeout=TIMEOUT_S)
        # Where cores are busy, processes start at very different times.
        all_there.wait(DEADLINE_S)
        exchange.meet("127.0.0.1", port, "127.0.0.1")
        answers.put((rank, work(exchange, *arguments), None))
    except BaseException:
        answers.put((rank, None, traceback.format_exc()))
    finally:
        exchange.close()
        answers.close()
        answers.join_thread()
        # Nothing of an interpreter that shuts down may keep a test waiting.
        os._exit(0)
