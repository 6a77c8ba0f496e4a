"""What cuts the learning rate, what ends a phase, and what is given back between steps."""

from __future__ import annotations

import itertools
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from edt_cli.config import PhaseSchedule, TrainingSettings
from edt_cli.models.kernels import trim_heap
from edt_cli.training.checkpoint import read_progress
from edt_cli.training.loop import CHECKPOINT, run_phase, train_step
from edt_cli.workspace.events import Events


class Numbers:
    """A phase of one weight and one step an epoch."""

    name = "pre-training"
    lr = 0.1
    steps_per_epoch = 1
    min_steps = 0
    validate_steps = 1
    own = None
    dropout = True

    def __init__(self, epochs: int = 50) -> None:
        self.model = nn.Linear(1, 1)
        self.epochs = epochs
        self.generators: list[torch.Generator] = []

    def batches(self):
        yield torch.ones(1, 1)

    def loss(self, batch):
        return {"loss": self.model(batch).sum()}

    def own_loss(self, batch):
        return {}

    def parameter_groups(self, decay):
        return [{"params": list(self.model.parameters()), "pace": 1.0, "weight_decay": decay}]

    def notes(self):
        return {}


def run(figures: list[float], folder: Path, **settings):
    found = itertools.chain(figures, itertools.repeat(figures[-1]))
    return run_phase(Numbers(), TrainingSettings(**settings), folder, Events(folder), lambda: {"mean": next(found)})


def test_a_plateau_cuts_the_rate_and_a_better_epoch_begins_anew(tmp_path):
    figures = [0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
    settings = {"schedule": "plateau", "plateau_patience": 2, "plateau_factor": 0.5, "epochs": 50, "patience": 6}
    p = run(figures, tmp_path, **settings)
    # After epochs 1, 2, 3 without a better one; then after 5, 6, 7 and 8, 9, 10, where patience ends it.
    assert (p.cuts, p.best_epoch, p.epoch, p.ended) == ([3, 7, 10], 4, 10, "patience")


def test_the_cut_is_what_the_optimiser_steps_by(tmp_path):
    rates = []

    class Watched(Numbers):
        def loss(self, batch):
            rates.append(float(self.model.weight.detach()))
            return super().loss(batch)

    s = TrainingSettings(schedule="plateau", plateau_patience=1, plateau_factor=0.5, patience=6)
    run_phase(Watched(), s, tmp_path, Events(tmp_path), lambda: {"mean": 0.1})
    steps = [before - after for before, after in itertools.pairwise(rates)]
    # Adam's step on a constant gradient is the learning rate.
    assert steps == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025], rel=1e-3)


@pytest.mark.parametrize("clip_norm", [None, 0.5, 4.0, 1000.0])
def test_the_gradient_of_each_optimiser_is_scaled_to_the_norm(clip_norm):
    """Against a slow version: of two terms, and of a second optimiser, with a weight of its own."""

    class Three(Numbers):
        def __init__(self):
            self.model = nn.ParameterDict({name: torch.zeros(2) for name in "abc"})
            self.own = torch.optim.SGD([self.model["c"]], lr=1.0)

        def own_loss(self, batch):
            return {"meta": (torch.tensor([2.0, -3.0]) * self.model["c"] * (1 + self.model["a"].sum())).sum()}

        def loss(self, batch):
            one, two = torch.tensor([3.0, 0.0]), torch.tensor([1.0, -4.0])
            return {"one": (one * self.model["a"]).sum(), "two": (two * self.model["b"]).sum()}

    phase = Three()
    optimizer = torch.optim.SGD([{"params": [phase.model["a"]]}, {"params": [phase.model["b"]]}], lr=1.0)
    train_step(phase, None, optimizer, TrainingSettings(clip_norm=clip_norm))

    def slow(gradients: list[list[float]]) -> list[list[float]]:
        norm = sum(value * value for gradient in gradients for value in gradient) ** 0.5
        scale = 1.0 if clip_norm is None else min(1.0, clip_norm / norm)
        return [[-scale * value for value in gradient] for gradient in gradients]

    expected = slow([[3.0, 0.0], [1.0, -4.0]]) + slow([[2.0, -3.0]])
    for name, values in zip("abc", expected, strict=True):
        assert phase.model[name].tolist() == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_phase_with_nothing_held_out_repeats_the_course_of_another(schedule, tmp_path):
    class Watched(Numbers):
        def __init__(self):
            super().__init__(epochs=12)
            self.steps = []

        def loss(self, batch):
            self.steps.append(float(self.model.weight.detach()))
            return super().loss(batch)

        def rates(self):
            return [before - after for before, after in itertools.pairwise(self.steps)]

    figures = itertools.chain([0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.3], itertools.repeat(0.1))
    s = TrainingSettings(schedule=schedule, plateau_patience=1, plateau_factor=0.5, patience=9)
    first, again = Watched(), Watched()
    p = run_phase(first, s, tmp_path / "one", Events(tmp_path / "one"), lambda: {"mean": next(figures)})
    assert p.best_epoch == 6
    schedule = PhaseSchedule(epochs=p.best_epoch, planned_epochs=12, cuts=tuple(p.cuts))
    s = TrainingSettings(**{**s.model_dump(), "schedules": {"pre-training": schedule}})
    q = run_phase(again, s, tmp_path / "two", Events(tmp_path / "two"), None)
    assert (q.epoch, q.ended) == (6, "epochs")
    assert again.rates() == pytest.approx(first.rates()[:5], rel=1e-3)
    assert min(again.rates()) < 0.98 * max(again.rates())


def test_a_pause_takes_nothing_of_a_phase_s_minutes(tmp_path):
    class Pausing(Events):
        def obey(self, *, epoch_ended=False):
            if epoch_ended:
                return 0.0
            time.sleep(0.02)
            return 0.02

    p = run_phase(Numbers(), TrainingSettings(patience=90), tmp_path, Pausing(tmp_path), lambda: {"mean": 0.1})
    assert p.epoch == 50 and p.seconds < 0.7


@pytest.mark.parametrize(
    ("settings", "ended", "epoch"),
    [({"patience": 3}, "patience", 3), ({"minutes": 1e-9}, "minutes", 0), ({"patience": 90}, "epochs", 50)],
)
def test_a_phase_says_what_ended_it(settings, ended, epoch, tmp_path):
    p = run([0.1], tmp_path, **settings)
    kept = read_progress(tmp_path / CHECKPOINT)
    assert kept is not None
    assert (p.ended, p.epoch) == (kept.ended, kept.epoch) == (ended, epoch)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to give memory back")


FREED = """
import psutil
from edt_cli.models.kernels import LARGE, SHORT, map_large_blocks
bytearray(30 << 20)  # Once such a block was freed, glibc would keep smaller ones in its heap.
map_large_blocks(SHORT + 1)
process = psutil.Process()
blocks = [bytearray(LARGE) for _ in range(100)]
last = bytearray(LARGE)
before = process.memory_info().rss
del blocks
print(before - process.memory_info().rss >> 20, len(last) == LARGE)
"""


@glibc
def test_large_blocks_are_gone_when_they_are_freed():
    """In a process of its own: elsewhere what earlier tests have freed may hold some of them."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, timeout=120, check=True)
    freed, held = done.stdout.split()
    assert int(freed) > 350 and held == "True"


@glibc
def test_what_is_free_between_epochs_is_given_back():
    process = psutil.Process()
    pieces = [bytearray(64 << 10) for _ in range(12_000)]
    last = bytearray(64 << 10)
    before = process.memory_info().rss
    del pieces
    trim_heap()
    assert process.memory_info().rss < before - (500 << 20)
    assert len(last) == 64 << 10
