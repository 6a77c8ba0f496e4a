"""The device that is trained and ranked on."""

from __future__ import annotations

import torch

from edt_cli.config import UsageError, UserError


def open_device(name: str) -> torch.device:
    """`cpu`, `cuda`, `cuda:1` or `auto` (a GPU where there is one). Errors: UserError before any work."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}: use cpu, cuda, cuda:N or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA GPU can be used here (torch sees none); use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no GPU {device.index}: torch sees {torch.cuda.device_count()}")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported: use cpu or cuda")
    return device
