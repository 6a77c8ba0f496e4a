"""Facts about this machine and what is installed on it, read without importing anything slow."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edt_cli.workspace.version import __version__

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve")
"""Instruction sets that decide how fast a CPU trains."""
ROOT = Path(__file__).parents[2]


def machine() -> dict[str, Any]:
    """Return the system, the Python, the CPU and the memory."""
    import psutil

    name, flags = _cpu()
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": name,
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": cores(),
        "memory": psutil.virtual_memory().total,
    }


def versions() -> dict[str, str | None]:
    """Return the versions of edt, torch and numpy, and the commit if edt runs from a checkout."""
    return {
        "edt": __version__,
        "commit": _commit(),
        "torch": installed_version("torch"),
        "numpy": installed_version("numpy"),
    }


def installed_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> tuple[str, set[str]]:
    """Return the CPU's name and instruction sets, as far as the system tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor(), set()
    fields = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*)$", text, re.MULTILINE))
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.machine(), set(flags.split())


def _commit() -> str | None:
    """Return the commit of a checkout, with `-dirty` if files differ from it; None for an installed package."""
    if not (ROOT / ".git").exists():
        return None
    return _output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _output(*command: str) -> str | None:
    """Return the output of a short command; None if it fails."""
    with suppress(OSError, subprocess.SubprocessError):
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True, env=environment)
        return done.stdout.strip() or None
    return None
