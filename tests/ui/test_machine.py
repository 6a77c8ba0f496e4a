"""The machine's line: several GPUs by NVML, a driver that will not say, and no GPU at all."""

from __future__ import annotations

import builtins
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from edt_cli.inference.listing import RunRow
from edt_cli.ui import machine, tables


class NVMLError(Exception):
    pass


def nvml(count: int, last: int = -1) -> SimpleNamespace:
    """The library's calls, as the second of its GPUs answers them: with its temperature alone.

    This process computes on GPU number `last`.
    """

    def said(value):
        def call(handle, *arguments):
            if handle:
                raise NVMLError("not supported")
            return value

        return call

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetName=said(b"H"),
        nvmlDeviceGetUtilizationRates=said(SimpleNamespace(gpu=84)),
        nvmlDeviceGetMemoryInfo=said(SimpleNamespace(used=31 << 30, total=80 << 30)),
        nvmlDeviceGetPowerUsage=said(412_000),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [SimpleNamespace(pid=os.getpid())] * (handle == last),
        nvmlDeviceGetTemperature=lambda handle, sensor: 61 - handle,
    )


@pytest.fixture(autouse=True)
def anew():
    machine._nvml.cache_clear()
    yield
    machine._nvml.cache_clear()


def test_several_gpus_and_what_a_driver_does_not_say(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(2))
    told = machine.lines(machine.read_machine(), 80)
    assert told[0].startswith("CPU ") and "ram" in told[0]
    assert told[1] == "GPU0  ████████░░  84%  mem 31.0G/80.0G  412W  61C"
    assert told[2] == "GPU1  60C"


def test_of_eight_gpus_that_of_the_run_is_first_and_the_cpu_is_never_lost(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(8, last=6))
    eight = machine.read_machine(os.getpid())
    narrow, wide = machine.lines(eight, 80), machine.lines(eight, 160)
    assert len(narrow) == 6 and narrow[0].startswith("CPU") and narrow[1].startswith("GPU6*")
    assert narrow[-1] == "and 4 more GPUs"
    assert len(wide) == 5 and all(f"GPU{number}" in "".join(wide) for number in range(8))


def test_the_device_of_a_run_is_first_where_its_process_cannot_be_seen(monkeypatch):
    """As in a container, whose process ids are not those that the driver knows."""
    monkeypatch.setitem(sys.modules, "pynvml", nvml(4))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.lines(machine.read_machine(1, "cuda:2"), 80)[1].startswith("GPU2*")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert machine.lines(machine.read_machine(1, "cuda"), 80)[1].startswith("GPU3*")
    for device, visible in (("cpu", ""), ("cuda:5", "0,1"), ("cuda:0", "GPU-5f3c")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert not any("*" in line for line in machine.lines(machine.read_machine(1, device), 80))


def test_a_driver_without_its_library_is_told_how_to_show(monkeypatch, tmp_path):
    (tmp_path / "version").write_text("NVRM")
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(machine, "_has_library", lambda: False)
    monkeypatch.setattr(machine, "_gpus", lambda: ())
    machine._hint.cache_clear()
    assert machine.lines(machine.read_machine(), 80)[-1] == "GPUs are shown after: pip install 'edt-cli[gpu]'"
    machine._hint.cache_clear()


def test_without_the_library_or_without_a_driver_there_is_no_gpu(monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **more):
        if name == "pynvml":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert machine.read_machine().gpus == ()
    monkeypatch.undo()
    machine._nvml.cache_clear()
    broken = nvml(1)

    def no_driver():
        raise NVMLError("no driver")

    broken.nvmlInit = no_driver
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert machine.read_machine().gpus == ()


def test_a_process_that_is_gone_has_no_memory():
    assert machine.read_machine(2**22 + 1).process_memory is None


def test_a_refit_takes_no_run_of_the_same_data_out_of_the_tables(monkeypatch):
    taken = []
    monkeypatch.setattr(tables, "_maker", lambda rows, make: taken.append([row.name for row in rows]))
    keys = {"new-refit": "k2-test", "new": "k2", "old": "k1"}
    figures = {"ndcg_food": 0.1}
    tables._ours(
        [RunRow(Path(n), "finished", 0.0, {"data": "pair", "data_key": key}, figures) for n, key in keys.items()],
        only_marked=False,
    )
    assert {tuple(names) for names in taken} == {("new-refit", "new")}


def test_the_use_of_the_cpus_is_that_since_the_last_reading_in_whichever_thread():
    def burnt() -> float:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        return machine.read_machine().cpu

    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            assert 0.0 < pool.submit(burnt).result() <= 1.0
