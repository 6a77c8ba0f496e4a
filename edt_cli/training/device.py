"""Selection of the device for training and ranking."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edt_cli.config import UsageError, UserError

if TYPE_CHECKING:
    import torch

NAMES = r"auto|cpu|mps|cuda(:\d+)?"


def in_use(name: str) -> dict[str, str | int | None]:
    """Return the device, the GPU's name and the numbers of CPU threads and processes, as a run records them."""
    import torch

    from edt_cli.distributed.group import processes

    device = torch.device(name)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"device": name, "gpu": gpu, "threads": torch.get_num_threads(), "processes": processes()}


def check_device(name: str) -> None:
    """Check the name of a device, without loading torch.

    Raises:
        UsageError: If there is no such name.
    """
    if not re.fullmatch(NAMES, name):
        raise UsageError(f"unknown device {name!r}: use cpu, cuda, cuda:N, mps or auto")


def open_device(name: str) -> torch.device:
    """Return the device `cpu`, `cuda`, `cuda:N`, `mps` or `auto`, the first of cuda, mps and cpu that there is.

    Raises:
        UsageError: If the name is unknown.
        UserError: If there is no such GPU.
    """
    import torch

    check_device(name)
    if name == "auto":
        found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        name = next(kind for kind, there in found.items() if there)
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("torch finds no CUDA GPU; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no GPU {device.index}: torch finds {torch.cuda.device_count()}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("torch finds no GPU of Apple's (MPS); use --device cpu")
    return device
