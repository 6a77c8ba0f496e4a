"""Failed questions are asked again once, however many runs of a command read the answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_fakes import Scripted
from toy import random_dataset

from edt_cli.config import load_settings
from edt_cli.experiments.compare import Comparison, retry_failed
from edt_cli.llm.providers import Providers
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.stages import Stages
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

DATASET = random_dataset()


def pipeline(tmp_path, preset="llm-edt-ce", **flags) -> Pipeline:
    settings = load_settings(preset, flags={"llm": {"provider": "scripted/one"}, **flags}, environment={})
    providers = Providers(Workspace(tmp_path), settings)
    providers.__dict__["backend"] = Scripted(lambda request: "")
    return Pipeline(Workspace(tmp_path), DATASET, settings, shared=providers)


def test_seeds_and_ablations_share_what_is_asked_again(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Stages, "_retried", lambda self, kind: asked.append(kind) or self)
    done: set[str] = set()
    for flags in ({}, {"training": {"seed": 7}}, {"profiling": {"enabled": False}}):
        pipeline(tmp_path, **flags).retried(done)
    pipeline(tmp_path, "sasrec").retried(done)
    assert asked == ["augmentation", "profiles"]
    pipeline(tmp_path, augmentation={"ask": 4}).retried(done)
    assert asked[2:] == ["augmentation", "profiles"], "another augmentation has profiles of its own"


@dataclass
class Cell:
    seen: list[set[str]]
    events: Events = field(default_factory=Events)

    def retried(self, done: set[str]) -> None:
        done.add("one")
        self.seen.append(set(done))


def test_a_plan_asks_again_before_any_run(tmp_path, monkeypatch):
    seen: list[set[str]] = []
    c = Comparison(Workspace(tmp_path), plan=None, cells=[1, 2], datasets={})  # type: ignore[arg-type]
    monkeypatch.setattr(Comparison, "pipeline", lambda self, cell: Cell(seen))
    monkeypatch.setattr(Comparison, "key", lambda self, cell: f"{cell}{len(seen)}")
    before = c.unique
    retry_failed(c, Events())
    assert len(seen) == len(before) == 2 and seen[1] == {"one"}
    assert c.unique is not before, "keys have moved"
