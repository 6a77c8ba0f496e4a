"""What the machine is doing: GPUs by NVML where its library is there, else nothing of them; CPU and memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil

from edt_cli.ui.text import bar, size


@dataclass(frozen=True)
class Gpu:
    """Shares in [0, 1], bytes, watts, degrees Celsius; None where the driver does not say."""

    name: str
    used: float | None
    memory: int | None
    memory_total: int | None
    watts: float | None
    degrees: int | None


@dataclass(frozen=True)
class Machine:
    """`cpu`: share of all cores since the last reading; `own`: resident bytes of the process that is watched."""

    cpu: float
    memory: int
    memory_total: int
    gpus: tuple[Gpu, ...] = ()
    own: int | None = None


def read_machine(pid: int | None = None) -> Machine:
    """Takes milliseconds, with several GPUs tens of them: not for the thread that draws."""
    memory = psutil.virtual_memory()
    own = None
    if pid is not None:
        try:
            own = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            own = None
    return Machine(
        cpu=psutil.cpu_percent() / 100,
        memory=memory.total - memory.available,
        memory_total=memory.total,
        gpus=_gpus(),
        own=own,
    )


def lines(machine: Machine, width: int) -> list[str]:
    """A line a GPU, and one for CPU and memory."""
    room = 10 if width >= 70 else 5
    found = []
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
        found.append("  ".join(parts))
    own = f"  run {size(machine.own)}" if machine.own else ""
    cpu = f"CPU  {bar(machine.cpu, room)} {machine.cpu:4.0%}"
    return [*found, f"{cpu}  ram {size(machine.memory)}/{size(machine.memory_total)}{own}"]


@cache
def _nvml() -> Any | None:
    """The library, begun; None without it, without a driver or without a GPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # the library's own errors are made at run time
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
    def asked(call: Any, *arguments: Any) -> Any:
        try:
            return call(handle, *arguments)
        except nvml.NVMLError:
            return None

    name = asked(nvml.nvmlDeviceGetName)
    rates = asked(nvml.nvmlDeviceGetUtilizationRates)
    memory = asked(nvml.nvmlDeviceGetMemoryInfo)
    milliwatts = asked(nvml.nvmlDeviceGetPowerUsage)
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else str(name or ""),
        used=None if rates is None else rates.gpu / 100,
        memory=None if memory is None else memory.used,
        memory_total=None if memory is None else memory.total,
        watts=None if milliwatts is None else milliwatts / 1000,
        degrees=asked(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
    )
