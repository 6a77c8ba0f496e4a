"""The processes that train together: gloo between CPUs, NCCL between GPUs.

Process 0 leads: it validates, decides and writes. The others hold the same weights and read its files, so that the
workspace must be a folder that all of them see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

JOINING = timedelta(minutes=5)
"""How long a process waits for the others to start."""
PATIENCE = timedelta(days=30)
"""How long a process waits for another then: as long as an LLM stage or a validation may take."""
GPU_PATIENCE = timedelta(minutes=30)
"""The same for what is exchanged within a training step on GPUs."""
SPREAD = 0x9E3779B1
"""Distance between the seeds of two processes."""

LOST = "another process of this training has ended; the same command goes on from the last checkpoint"
"""The message of a process that has lost another one."""

_groups: dict[str, dist.ProcessGroup] = {}
"""The groups that exchange tensors, by the type of their device."""


def processes() -> int:
    """Return the number of processes that train together; 1 outside of `joined`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process() -> int:
    """Return the number of this process, from 0; the first one leads."""
    return dist.get_rank() if processes() > 1 else 0


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the group that torchrun's variables describe: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    Args:
        device: Name of the device of this process.
    """
    dist.init_process_group("gloo", timeout=JOINING)
    # gloo always: what one process tells the others is in the CPU's memory.
    _groups["cpu"] = dist.new_group(backend="gloo", timeout=PATIENCE)
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
        _groups["cuda"] = dist.new_group(backend="nccl", timeout=GPU_PATIENCE)
    try:
        yield
    finally:
        _groups.clear()
        with suppress(RuntimeError):  # a process may be gone, and that is the error already
            dist.destroy_process_group()


def group_of(device: torch.device) -> dist.ProcessGroup:
    """Return the group that exchanges tensors on a device."""
    return _groups[device.type]


def is_lost(error: BaseException) -> bool:
    """Return whether an error says that another process is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def seed_of_process(seed: int) -> int:
    """Return the seed of what each process draws for itself: dropout and negatives. The leader's is `seed`."""
    return seed + process() * SPREAD


def draw_apart(seed: int) -> None:
    """Seed torch's own generator of a process that follows, once the initial weights are drawn."""
    if process():
        torch.manual_seed(seed_of_process(seed))


def number_of_leader(number: int) -> int:
    """Return the number that the leader passes, in all processes; the others' are ignored."""
    if processes() == 1:
        return number
    told = torch.tensor([number])
    dist.broadcast(told, 0, group=group_of(told.device))
    return int(told)


def value_of_leader(value: Any) -> Any:
    """Return the JSON value that the leader passes, in all processes; the others' are ignored."""
    if processes() == 1:
        return value
    data = json.dumps(value).encode() if not process() else b""
    told = torch.zeros(number_of_leader(len(data)), dtype=torch.uint8)
    if data:
        told.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    dist.broadcast(told, 0, group=group_of(told.device))
    return json.loads(bytes(told.tolist()))


def of_all_processes(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return what each process passes, by its number: tensors on the CPU of the same names and shapes."""
    if processes() == 1:
        return [tensors]
    parts: list[dict[str, Tensor]] = [{} for _ in range(processes())]
    for name, tensor in tensors.items():
        gathered = [torch.empty_like(tensor) for _ in parts]
        dist.all_gather(gathered, tensor.contiguous(), group=group_of(tensor.device))
        for part, one in zip(parts, gathered, strict=True):
            part[name] = one
    return parts
