"""Selection of the device for training and ranking."""

from __future__ import annotations

import torch

from edt_cli.config import UsageError, UserError


def in_use(name: str) -> dict[str, str | int | None]:
    """Return the device, the GPU's name and the number of CPU threads, as a run records them."""
    device = torch.device(name)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"device": name, "gpu": gpu, "threads": torch.get_num_threads()}


def open_device(name: str) -> torch.device:
    """Return the device `cpu`, `cuda`, `cuda:N` or `auto` (a GPU if there is one), checked before any work.

    Raises:
        UsageError: If the name is unknown or not supported.
        UserError: If there is no such GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}: use cpu, cuda, cuda:N or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("torch finds no CUDA GPU; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no GPU {device.index}: torch finds {torch.cuda.device_count()}")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported: use cpu or cuda")
    return device
