"""Use of CPU, memory and GPUs. GPUs are read with NVML, and left out if its library is missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil

from edt_cli.ui.text import bar, size


@dataclass(frozen=True)
class Gpu:
    """Use of a GPU: share in [0, 1], bytes, watts, degrees Celsius; None for what the driver does not report."""

    name: str
    used: float | None
    memory: int | None
    memory_total: int | None
    watts: float | None
    degrees: int | None


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


def read_machine(pid: int | None = None) -> Machine:
    """Read the use of the machine.

    This takes milliseconds, and tens of them with several GPUs, so it must not be called in the thread that draws.
    """
    memory = psutil.virtual_memory()
    process_memory = None
    if pid is not None:
        try:
            process_memory = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            process_memory = None
    return Machine(
        cpu=psutil.cpu_percent() / 100,
        memory=memory.total - memory.available,
        memory_total=memory.total,
        gpus=_gpus(),
        process_memory=process_memory,
    )


def lines(machine: Machine, width: int) -> list[str]:
    """Return a line for each GPU, and one for CPU and memory."""
    room = 10 if width >= 70 else 5
    gpu_lines = []
    for number, gpu in enumerate(machine.gpus):
        parts = [f"GPU{number}"]
        if gpu.used is not None:
            parts.append(f"{bar(gpu.used, room)} {gpu.used:4.0%}")
        if gpu.memory is not None and gpu.memory_total:
            parts.append(f"mem {size(gpu.memory)}/{size(gpu.memory_total)}")
        if gpu.watts is not None:
            parts.append(f"{gpu.watts:.0f}W")
        if gpu.degrees is not None:
            parts.append(f"{gpu.degrees}C")
        gpu_lines.append("  ".join(parts))
    process = f"  run {size(machine.process_memory)}" if machine.process_memory else ""
    cpu = f"CPU  {bar(machine.cpu, room)} {machine.cpu:4.0%}"
    return [*gpu_lines, f"{cpu}  ram {size(machine.memory)}/{size(machine.memory_total)}{process}"]


@cache
def _nvml() -> Any | None:
    """Return the initialised NVML library, or None without the library, a driver or a GPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # the library creates its error classes at run time
        return None
    return pynvml


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
    milliwatts = query(nvml.nvmlDeviceGetPowerUsage)
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else str(name or ""),
        used=None if rates is None else rates.gpu / 100,
        memory=None if memory is None else memory.used,
        memory_total=None if memory is None else memory.total,
        watts=None if milliwatts is None else milliwatts / 1000,
        degrees=query(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
    )
