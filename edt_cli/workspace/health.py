"""What is missing, slow or broken on this machine, and what mends it. Nothing is imported, nobody is asked."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from edt_cli.config import Settings, did_you_mean, fields_of, similar
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.machine import installed_version

Level = Literal["broken", "doubtful", "slow", "missing"]
LEVELS = get_args(Level)
PACKAGE = "edt-cli"
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
ROOM, LITTLE_ROOM = 100e6, 2e9
"""Free bytes below which nothing can be made, and below which a real pair may not fit."""
MISSED = {"llm", "search"}
"""Extras that are reported where they are missing: not the GPU's, told where there is one, nor a tracker's."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what mends it."""

    level: Level
    what: str
    mend: str


def findings(
    workspace: Workspace,
    machine: Mapping[str, Any],
    keys: Mapping[str, bool],
    environment: Mapping[str, str] = os.environ,
) -> list[Finding]:
    """Return what is not as it should be, the worst first.

    Args:
        workspace: The workspace, which need not exist.
        machine: As `machine.machine` returns it.
        keys: Whether the variable of each provider's key is set.
        environment: Environment variables.
    """
    found = [
        *_packages(),
        *_workspace(workspace),
        *_names(environment),
        *_speed(machine, environment),
        *_gpu(),
        *_terminal(environment),
    ]
    if not any(keys.values()):
        mend = "none is needed for `local`; else, for example: export DEEPSEEK_API_KEY=..."
        found.append(Finding("missing", "no key of an LLM provider is set", mend))
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def driver() -> bool:
    """Return whether there is a driver of NVIDIA GPUs."""
    with suppress(OSError):
        return bool(ctypes.CDLL("libcuda.so.1"))
    return False


def cuda_of_torch() -> str | None:
    """Return the CUDA version that torch is built for, from its files; None for the CPU build, or without torch."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    with suppress(OSError):
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
        if match := re.search(r"^cuda\b.*=\s*'([\d.]+)'", text, re.MULTILINE):
            return match[1]
    return None


def free_bytes(workspace: Workspace) -> int:
    """Return the free bytes where the workspace is, or will be."""
    return shutil.disk_usage(_existing(workspace.root)).free


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _packages() -> Iterator[Finding]:
    extras: dict[str, list[str]] = {}
    for requirement in _requirements():
        package, _, marker = requirement.partition(";")
        name = re.split(r"[^\w.-]", package.strip(), maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if installed_version(name) is not None or (marker and not extra):
            continue
        if extra is None:
            yield Finding("broken", f"{name} is not installed", f"pip install '{package.strip()}'")
        else:
            extras.setdefault(extra[1], []).append(name)
    for extra_name in sorted(extras.keys() & MISSED):
        what = f"the extra `{extra_name}` is not installed ({', '.join(extras[extra_name])})"
        yield Finding("missing", what, f"pip install '{PACKAGE}[{extra_name}]'")


def _requirements() -> list[str]:
    try:
        return requires(PACKAGE) or []
    except PackageNotFoundError:
        return []


def _workspace(workspace: Workspace) -> Iterator[Finding]:
    elsewhere = "name another with --workspace, or EDT_WORKSPACE"
    place = _existing(workspace.root)
    if not place.is_dir():
        yield Finding("broken", f"{place} is no folder", elsewhere)
    elif not os.access(place, os.W_OK | os.X_OK):
        yield Finding("broken", f"{place} cannot be written", f"chmod u+rwx {place}, or {elsewhere}")
    free = free_bytes(workspace)
    if free < LITTLE_ROOM:
        level: Level = "broken" if free < ROOM else "doubtful"
        yield Finding(level, f"{free / 1e9:.1f} GB are free at {place}", f"edt clean --dry-run, or {elsewhere}")


def _names(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Find variables that look like a setting and are none: nothing else would say so."""
    known = {"EDT_" + name.upper().replace(".", "_") for name, _ in fields_of(Settings)}
    sections = tuple(f"EDT_{section.upper()}_" for section in Settings.model_fields if section != "options")
    for name in sorted(environment):
        if name.startswith(sections) and name not in known:
            mend = did_you_mean(similar(name, known)) or "edt settings lists the settings"
            yield Finding("doubtful", f"{name} is set and is no setting", mend)


def _speed(machine: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Finding]:
    if platform.machine() in ("x86_64", "AMD64") and machine["flags"] and "avx512f" not in machine["flags"]:
        what = "the CPU has no AVX-512: preset `best` trains in float32 in place of bfloat16, which takes longer"
        yield Finding("slow", what, "use a GPU or another machine for large data")
    text, cores = environment.get("OMP_NUM_THREADS", ""), machine["cores"]
    if text.isdecimal() and int(text) != cores:
        effect = "threads wait for each other" if int(text) > cores else "the other cores idle"
        yield Finding("slow", f"OMP_NUM_THREADS is {text} on {cores} cores: {effect}", "unset OMP_NUM_THREADS")


def _gpu() -> Iterator[Finding]:
    cuda, has_driver = cuda_of_torch(), driver()
    if cuda and not has_driver:
        what = f"torch is built for CUDA {cuda}, and there is no NVIDIA driver"
        mend = f"without a GPU, the smaller build will do: pip install torch --index-url {CPU_BUILDS}"
        yield Finding("missing", what, mend)
    if has_driver and not cuda and find_spec("torch"):
        what = "there is an NVIDIA driver, and torch is the build for CPUs"
        yield Finding("slow", what, "pip install --force-reinstall torch")
    if has_driver and installed_version("nvidia-ml-py") is None:
        yield Finding("missing", "the use of GPUs is not shown", f"pip install '{PACKAGE}[gpu]'")


def _terminal(environment: Mapping[str, str]) -> Iterator[Finding]:
    encoding = sys.stdout.encoding or "unknown"
    if encoding.lower().replace("-", "") != "utf8":
        what = f"the encoding of the output is {encoding}: what it has not is shown as ?"
        yield Finding("doubtful", what, "export PYTHONUTF8=1")
    if environment.get("TERM") == "dumb":
        what = "the terminal cannot move its cursor: there is no live view"
        yield Finding("missing", what, "export TERM=xterm-256color")
    elif "NO_COLOR" in environment:
        yield Finding("missing", "NO_COLOR is set: there is no colour", "unset NO_COLOR")
