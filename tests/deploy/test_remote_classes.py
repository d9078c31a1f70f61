"""A driver that replaces actors again and again does not keep a class for each of them."""

from __future__ import annotations

import ast
import gc
from pathlib import Path

import deploy.cluster
from deploy.cluster.remote_classes import remote_class
from deploy.cluster.worker_host import WorkerHost


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def test_asking_for_a_remote_class_again_keeps_nothing_more() -> None:
    first = remote_class(WorkerHost)
    before = objects()
    assert all(remote_class(WorkerHost) is first for _ in range(20))
    # ray.remote keeps more than 80 each time.
    assert objects() - before < 80


def test_every_class_of_actors_is_made_in_one_place() -> None:
    made = [
        file.name
        for file in sorted(Path(deploy.cluster.__file__).parent.glob("*.py"))
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "ray.remote"
    ]
    assert made == ["remote_classes.py"]
