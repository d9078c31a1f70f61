"""`Exchange` between processes by torch.distributed: gloo for the CPU, NCCL for GPUs.

The only place that knows of torch.distributed. Nothing here is encrypted or asks who connects: the
sockets are bound to one address of the machine, which must be on a network that is trusted.
"""

from __future__ import annotations

import logging
import os
import socket
from datetime import timedelta
from typing import Any

import psutil
import torch
import torch.distributed as distributed
from torch import Tensor

from learner.parallel.exchange import ExchangeLost

logger = logging.getLogger(__name__)


class ProcessExchange:
    """One of several learners, each in a process of its own (a process can be one learner only).

    After `meet` the sums are there; a learner that does not take part in one within `timeout_s`
    ends it for all, and one whose process ends does so at once.
    """

    def __init__(self, rank: int, learners: int, device: torch.device, timeout_s: float) -> None:
        self.rank = rank
        self.learners = learners
        self._device = device
        self._timeout = timedelta(seconds=timeout_s)
        self._door: socket.socket | None = None
        # Held for as long as the group: the others' messages go through it while they meet.
        self._store: Any = None

    def open_door(self, address: str) -> int:
        """Listen at an address of this machine, for the others to `meet` at; return the port."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._door = socket.create_server((address, 0), family=family)
        return int(self._door.getsockname()[1])

    def meet(self, host: str, port: int, address: str) -> None:
        """Wait for all learners at the door of the first; `address` is this machine's own.

        Raises:
            ExchangeLost: they did not all come in time.
        """
        _listen_only_at(address)
        backend = "nccl" if self._device.type == "cuda" else "gloo"
        try:
            self._store = distributed.TCPStore(  # type: ignore[attr-defined]
                host,
                port,
                is_master=self._door is not None,
                wait_for_workers=False,
                timeout=self._timeout,
                master_listen_fd=None if self._door is None else self._door.detach(),
            )
            distributed.init_process_group(
                backend,
                store=self._store,
                rank=self.rank,
                world_size=self.learners,
                timeout=self._timeout,
            )
        except RuntimeError as error:
            raise ExchangeLost(
                f"the {self.learners} learners did not all meet at {host} port {port} within "
                f"{self._timeout.total_seconds():.0f} s ({_first_line(error)})"
            ) from error
        logger.info("learner %d of %d meets the others by %s", self.rank, self.learners, backend)

    def total(self, *parts: Tensor) -> list[Tensor]:
        """Return the sums of each part over all learners, laid out in memory as the parts are."""
        found: list[Tensor] = [torch.empty_like(part) for part in parts]
        for kind in dict.fromkeys(part.dtype for part in parts):
            chosen = [number for number, part in enumerate(parts) if part.dtype == kind]
            flat = torch.cat([parts[number].detach().reshape(-1) for number in chosen])
            summed = self._summed(flat)
            start = 0
            for number in chosen:
                size = parts[number].numel()
                found[number].copy_(summed[start : start + size].view(parts[number].shape))
                start += size
        return found

    def _summed(self, flat: Tensor) -> Tensor:
        place = flat.to(self._device)
        try:
            distributed.all_reduce(place)
        except RuntimeError as error:
            raise ExchangeLost(
                f"another learner is gone, or did not answer learner {self.rank} within "
                f"{self._timeout.total_seconds():.0f} s ({_first_line(error)})"
            ) from error
        return place.to(flat.device)

    def close(self) -> None:
        """Leave: whoever still waits for this learner is told so at once."""
        if distributed.is_initialized():
            distributed.destroy_process_group()
        if self._door is not None:
            self._door.close()


def _listen_only_at(address: str) -> None:
    """Make the libraries use the network interface that has this address, unless one was chosen."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
            return
    logger.warning("no network interface has the address %s: the learners' sockets choose", address)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
