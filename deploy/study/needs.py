"""What a job of a study needs, and how many there is room for on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from deploy import placement, preflight
from deploy.study.plan import pretraining_configs
from deploy.worker_numbers import cores_of_this_machine, planned_workers
from repertory.config import RunConfig

if TYPE_CHECKING:
    from repertory.recipes.studies import Study

GIB = 2**30
_COUNT = "import torch; print(torch.cuda.device_count())"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the largest job of a study takes."""

    cores: int
    memory: int
    """Bytes, an estimate."""
    device: str
    """The learner's: cpu, cuda, or auto."""


def needs_of(study: Study, settings: tuple[str, ...], address: str = "") -> tuple[Needs, list[str]]:
    """Return what a job takes, and the warnings of the study's runs, each once.

    Fine-tuning takes no more than the pre-training that it follows. With an `address` jobs run on
    that cluster's nodes, of which this machine knows nothing.

    Raises:
        BadInput: settings that cannot be, or that this machine has no room for.
    """
    configs = pretraining_configs(study, settings)
    plans = [
        preflight.check(_elsewhere(config, address) if address else config, probe_cluster=False)
        for config in configs
    ]
    parts = [placement.parts(*pair) for pair in zip(configs, (p.tasks for p in plans), strict=True)]
    needs = Needs(
        cores=max(map(_cores, configs)),
        memory=max(map(placement.memory, parts)),
        device=configs[0].learner.device,
    )
    return needs, list(dict.fromkeys(warning for plan in plans for warning in plan.warnings))


def at_once(needs: Needs, gpus: int) -> tuple[int, str]:
    """Return how many jobs this machine has room for, at least one, and why no more.

    `gpus` are those that torch sees; jobs whose learners take one get one each.
    """
    cores, free = cores_of_this_machine(), psutil.virtual_memory().available
    room = {
        f"{cores} cores, {needs.cores} each": cores // needs.cores,
        f"{free / GIB:.1f} GiB of free memory, {needs.memory / GIB:.1f} each": free // needs.memory,
    }
    if gpus:
        room[f"{gpus} GPUs, one each"] = gpus
    reason = min(room, key=lambda why: room[why])
    return max(1, room[reason]), reason


def visible_gpus(needs: Needs) -> list[str]:
    """Return the GPUs that the learners of this machine's jobs would use, as CUDA is told them.

    Another process asks torch: this one would keep what importing it takes, for hours.
    """
    if needs.device == "cpu" or not Path("/dev/nvidiactl").exists():
        return []
    asked = subprocess.run(
        [sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False
    )
    count = int(asked.stdout) if asked.returncode == 0 else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(number) for number in range(count)])[:count]


def _cores(config: RunConfig) -> int:
    """Return the cores that a run keeps busy; the evaluator's is not one for long."""
    if config.runtime == "local":
        return config.learner.threads
    return planned_workers(config) + config.learner.count


def _elsewhere(config: RunConfig, address: str) -> RunConfig:
    """Return the run as one of a cluster's, which is not held to this machine's memory and GPU."""
    return config.model_copy(update={"runtime": "cluster", "address": address})
