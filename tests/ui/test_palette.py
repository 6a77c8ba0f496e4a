"""What ctrl+p finds, and where it leads."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from screens import text_of
from test_app import drive, seen
from textual.pilot import Pilot
from textual.widgets import Input

from edt_cli.inference.listing import RunRow
from edt_cli.ui import prompt_try
from edt_cli.ui.library import Shelf
from edt_cli.ui.palette import KINDS, Entry, Everything, _runs, _settings
from edt_cli.ui.processes import Output
from edt_cli.ui.run_screen import RunScreen
from edt_cli.ui.screenshots import press
from edt_cli.ui.setting import setting_named
from edt_cli.ui.user_screen import UserScreen
from edt_cli.workspace.status import RunStatus

pytestmark = pytest.mark.e2e


async def found(pilot: Pilot[None], words: str, name: str) -> None:
    """Type words into the palette, and choose the first that it finds, which has `name` in it."""
    await press(pilot, ["ctrl+p"])
    pilot.app.screen.query_one(Input).value = words
    await seen(pilot, name)
    await press(pilot, ["enter"])
    await pilot.pause(0.3)


def test_everything_is_found_by_its_name_from_any_screen(app_on):
    async def step(pilot: Pilot[None]) -> None:
        app = pilot.app
        await found(pilot, "run bbbb", "finished")
        assert isinstance(app.screen, RunScreen)
        await found(pilot, "paper 2", "table: read")
        text = await seen(pilot, "[4 Tables")
        assert "paper 2" in next(line for line in text.splitlines() if line.startswith(">"))
        await found(pilot, "u0007", "user: of pair")
        assert isinstance(app.screen, UserScreen) and "edt > users > pair > U0007" in text_of(app)
        await found(pilot, "training.lr", "learning rate")
        assert "edt train --set training.lr=" in text_of(app) and "0.001" in text_of(app)
        await press(pilot, ["escape"])
        dark = app.theme
        await found(pilot, "light", "key t")
        assert app.theme != dark
        # Letters in their order do where no words are there; and nothing is markup.
        await press(pilot, ["ctrl+p"])
        app.screen.query_one(Input).value = "lgtdrk"
        await seen(pilot, "Light or dark")

    drive(app_on(), step, (100, 36))


def test_a_prompt_is_tried_on_a_user(app_on, monkeypatch):
    ran = []

    async def output_of(words):
        ran.append(words[3:])
        return Output(0, b"[reply]\n[red]Teapot[/red]\n", b"a note")

    monkeypatch.setattr(prompt_try, "output_of", output_of)

    async def step(pilot: Pilot[None]) -> None:
        app = pilot.app
        await found(pilot, "u0007", "user: of pair")
        await press(pilot, ["p"])
        line = app.screen.query_one(Input)
        assert line.value == "generate --dry-run" and "--yes pays" in text_of(app)
        line.value = "analyze --provider 'deep seek' --dry-run"
        await press(pilot, ["enter"])
        text = await seen(pilot, "Teapot")
        assert "[red]Teapot[/red]" in text and "a note" in text
        await press(pilot, ["escape", "p"])
        assert app.screen.query_one(Input).value == "analyze --provider 'deep seek' --dry-run"
        app.screen.query_one(Input).value = "generate 'x"
        await press(pilot, ["enter"])
        await seen(pilot, "No closing quotation")

    drive(app_on(), step, (100, 36))
    (words,) = ran
    assert words[:6] == ["prompts", "try", "analyze", "--provider", "deep seek", "--dry-run"]
    assert words[6:10] == ["--user", "U0007", "--data", "pair"] and words[10] == "--workspace"
    assert prompt_try.first_words("openai/gpt-4o-mini") == "generate --provider openai/gpt-4o-mini --dry-run"
    assert prompt_try.first_words("local (no LLM)") == "generate --dry-run"


def test_five_hundred_runs_cost_a_key_little():
    plan = {"data": "pair"}
    rows = [RunRow(Path(f"run-{n:03d}"), RunStatus.FINISHED, 0.0, plan, title="SASRec") for n in range(500)]
    home = SimpleNamespace(shelf=Shelf(rows), post_message=print)
    entries = [*_runs(home), *_settings(None)]
    began = time.process_time()
    scores = {entry.name: entry.score(["run-07", "pair"]) for entry in entries}
    assert time.process_time() - began < 0.1
    best = sorted(scores, key=lambda name: -scores[name])[:10]
    assert best == [f"run-07{n}" for n in range(10)] and not scores["training.lr"]


def test_what_begins_with_the_words_comes_first_and_actions_before_users():
    entries = [Entry(kind, f"{before}stop", "", print) for kind in KINDS for before in ("", "long before ")]
    scores = [entry.score(["stop"]) for entry in entries]
    assert scores[0] == max(scores) and scores[-1] == min(scores) > 0
    assert Entry("run", "a", "", print, "other words").score(["words"]) > 0
    assert not Entry("run", "a", "", print).score(["b"])


def test_users_are_found_in_bounded_number(monkeypatch):
    provider = Everything.__new__(Everything)
    provider._users = [("big", [f"U{n}" for n in range(100_000)])]
    monkeypatch.setattr(Everything, "home", "a home")
    monkeypatch.setattr(Everything, "app", None)
    assert [entry.name for entry in provider._matching_users(["user", "u99999"])] == ["U99999"]
    assert len(list(provider._matching_users(["u"]))) == 20
    assert not list(provider._matching_users(["user"]))


def test_a_setting_is_told():
    setting = setting_named("options.alpha")
    assert setting.default == 0.7 and "L_align" in setting.about
    assert setting_named("training.train_on").kind == "train | train+valid | all"
