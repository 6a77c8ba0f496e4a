"""Use of CPU, memory and GPUs. GPUs are read with NVML; where its library is missing, a line says how to get it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from edt_cli.ui.text import bar, crop, size

DRIVER = Path("/proc/driver/nvidia/version")
"""File that Linux has where a driver for NVIDIA's GPUs is loaded."""


@dataclass(frozen=True)
class Gpu:
    """Use of a GPU: share in [0, 1], bytes, watts, degrees Celsius; None for what the driver does not report."""

    name: str
    used: float | None
    memory: int | None
    memory_total: int | None
    watts: float | None
    degrees: int | None
    processes: frozenset[int] = frozenset()
    """Ids of the processes that compute on it."""


@dataclass(frozen=True)
class Machine:
    """Use of the machine."""

    cpu: float
    """Share of all cores since the last reading."""
    memory: int
    memory_total: int
    gpus: tuple[Gpu, ...] = ()
    process_memory: int | None = None
    """Resident bytes of the watched process."""
    pid: int | None = None
    """Id of the watched process."""
    device: int | None = None
    """Number of the GPU that it was given, as the driver counts them; in a container, process ids tell nothing."""
    hint: str = ""
    """What to do to see the GPUs that are there."""


class CpuMeter:
    """Share of the CPUs in use between two readings; psutil's own begins anew, at 0, in each thread."""

    def __init__(self) -> None:
        self._last = self._times()

    def used(self) -> float:
        """Return the share since the last reading, or since this began."""
        (busy, whole), before = self._times(), self._last
        self._last = (busy, whole)
        return min(1.0, max(0.0, (busy - before[0]) / (whole - before[1]))) if whole > before[1] else 0.0

    @staticmethod
    def _times() -> tuple[float, float]:
        """Return seconds at work, and all seconds; those of guests are counted among the user's already."""
        times = psutil.cpu_times()
        whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return whole - times.idle - getattr(times, "iowait", 0.0), whole


_cpu = CpuMeter()


def read_machine(pid: int | None = None, device: str = "") -> Machine:
    """Read the use of the machine.

    This takes milliseconds, and tens of them with several GPUs, so it must not be called in the thread that draws.

    Args:
        pid: Id of the watched process.
        device: Its device, such as `cuda:1`.
    """
    memory = psutil.virtual_memory()
    process_memory = None
    if pid is not None:
        try:
            process_memory = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            process_memory = None
    return Machine(
        cpu=_cpu.used(),
        memory=memory.total - memory.available,
        memory_total=memory.total,
        gpus=_gpus(),
        process_memory=process_memory,
        pid=pid,
        hint=_hint(),
        device=_number_of(device, os.environ.get("CUDA_VISIBLE_DEVICES", "")),
    )


def lines(machine: Machine, width: int, most: int = 6) -> list[str]:
    """Return at most `most` lines: one for CPU and memory, then GPUs, that of the watched process first.

    Where there is room, two GPUs share a line; what does not fit is counted.
    """
    room = 10 if width >= 70 else 5
    process = f"  run {size(machine.process_memory)}" if machine.process_memory else ""
    cpu = f"CPU  {bar(machine.cpu, room)} {machine.cpu:4.0%}"
    cpu += f"  ram {size(machine.memory)}/{size(machine.memory_total)}{process}"
    own = [
        number
        for number, gpu in enumerate(machine.gpus)
        if number == machine.device or (machine.pid is not None and machine.pid in gpu.processes)
    ]
    order = [*own, *(number for number in range(len(machine.gpus)) if number not in own)]
    gpus = [_gpu_line(number, machine.gpus[number], room, own=number in own) for number in order]
    across = 2 if width >= 120 and len(gpus) > 1 else 1
    cell = width // across
    places = (most - 1) * across
    if len(gpus) > places:
        gpus = [*gpus[: places - 1], f"and {len(gpus) - places + 1} more GPUs"]
    rows = [
        "".join(crop(line, cell) for line in gpus[at : at + across]).rstrip() for at in range(0, len(gpus), across)
    ]
    return [cpu, *rows, *([machine.hint] if machine.hint and not gpus else [])]


def _number_of(device: str, visible: str) -> int | None:
    """Return the driver's number of a device such as `cuda:1`; None for no GPU, or one that is named otherwise.

    Args:
        device: As a run's plan names it; its number is among the visible ones.
        visible: CUDA_VISIBLE_DEVICES.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        return None
    place, names = int(number or 0), [name.strip() for name in visible.split(",") if name.strip()]
    if not names:
        return place
    return int(names[place]) if place < len(names) and names[place].isdecimal() else None


def _gpu_line(number: int, gpu: Gpu, room: int, *, own: bool) -> str:
    parts = [f"GPU{number}{'*' if own else ''}"]
    if gpu.used is not None:
        parts.append(f"{bar(gpu.used, room)} {gpu.used:4.0%}")
    if gpu.memory is not None and gpu.memory_total:
        parts.append(f"mem {size(gpu.memory)}/{size(gpu.memory_total)}")
    if gpu.watts is not None:
        parts.append(f"{gpu.watts:.0f}W")
    if gpu.degrees is not None:
        parts.append(f"{gpu.degrees}C")
    return "  ".join(parts)


@cache
def _nvml() -> Any | None:
    """Return the initialised NVML library, or None without the library, a driver or a GPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # the library creates its error classes at run time
        return None
    return pynvml


@cache
def _hint() -> str:
    """Return how to see GPUs, where a driver is loaded and its library is missing."""
    missing = DRIVER.exists() and not _has_library()
    return "GPUs are shown after: pip install 'edt-cli[gpu]'" if missing else ""


def _has_library() -> bool:
    try:
        import pynvml
    except ImportError:
        return False
    return bool(pynvml)


def _gpus() -> tuple[Gpu, ...]:
    nvml = _nvml()
    if nvml is None:
        return ()
    try:
        return tuple(_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(n)) for n in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:
        return ()


def _gpu(nvml: Any, handle: Any) -> Gpu:
    def query(call: Any, *arguments: Any) -> Any:
        try:
            return call(handle, *arguments)
        except nvml.NVMLError:
            return None

    name = query(nvml.nvmlDeviceGetName)
    rates = query(nvml.nvmlDeviceGetUtilizationRates)
    memory = query(nvml.nvmlDeviceGetMemoryInfo)
    processes = query(nvml.nvmlDeviceGetComputeRunningProcesses) or []
    milliwatts = query(nvml.nvmlDeviceGetPowerUsage)
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else str(name or ""),
        used=None if rates is None else rates.gpu / 100,
        memory=None if memory is None else memory.used,
        memory_total=None if memory is None else memory.total,
        watts=None if milliwatts is None else milliwatts / 1000,
        degrees=query(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
        processes=frozenset(process.pid for process in processes),
    )
