"""Which device is taken, and what is said where there is none. The GPUs here are pretended."""

from __future__ import annotations

import pytest
import torch

from edt_cli.config import TrainingSettings, UsageError, UserError
from edt_cli.training import loop
from edt_cli.training.device import check_device, open_device


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets the GPUs of this machine."""

    def has(*, cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": 1}, "cuda"), ({"cuda": 1, "mps": True}, "cuda")],
)
def test_auto_takes_cuda_before_mps_before_the_cpu(gpus, expected, machine):
    machine(**gpus)
    assert open_device("auto") == torch.device(expected)


@pytest.mark.parametrize(("name", "said"), [("mps", "MPS"), ("cuda", "no CUDA GPU"), ("cuda:1", "no CUDA GPU")])
def test_a_gpu_that_is_not_there_is_one_line(name, said, machine):
    machine()
    with pytest.raises(UserError, match=said):
        open_device(name)


def test_there_are_as_many_gpus_as_torch_finds(machine):
    machine(cuda=2, mps=True)
    assert open_device("cuda:1").index == 1
    assert open_device("mps").type == "mps"
    with pytest.raises(UserError, match="no GPU 2: torch finds 2"):
        open_device("cuda:2")


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "mps:0", "CPU", ""])
def test_another_name_is_wrong_usage(name):
    with pytest.raises(UsageError, match="cuda:N, mps or auto"):
        check_device(name)


@pytest.mark.parametrize(("kind", "dtype"), [("mps", "float32"), ("cuda", "bfloat16")])
def test_bfloat16_is_for_where_it_is_known_to_work(kind, dtype, monkeypatch):
    monkeypatch.setattr(loop, "device_of", lambda model: torch.device(kind))
    assert loop.working_dtype(torch.nn.Linear(1, 1), TrainingSettings(dtype="bfloat16")) == dtype
    assert loop.working_dtype(torch.nn.Linear(1, 1), TrainingSettings()) == "float32"
