"""A prompt tried from the app: by `local` at no cost, and by a provider that sends bills only after a question."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from made import dataset_of, histories
from screens import text_of
from test_app import drive, seen, typed
from textual.pilot import Pilot
from textual.widgets import Select

from edt_cli.data.saved import save
from edt_cli.ui import trial
from edt_cli.ui.app import EdtApp
from edt_cli.ui.processes import Output
from edt_cli.ui.screenshots import press
from edt_cli.ui.trial import TrialForm, TrialScreen, price_of
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e

ITEM = {"domain": "kitchen", "title": "[b]Pan[/b]", "purchase": 1, "anchor": "Plain thing b1", "rank": 1}
SCORED = {"score_source": 0.91, "score_target": 0.82, "tau": 0.75, "kept": True, "reason": "kept"}
USAGE = {"prompt_tokens": 321, "completion_tokens": 45, "cached": False}
EXCHANGE = {"prompt": "generate@1", "messages": [{"role": "user", "content": "A user bought:\n1. Rice"}]}
HEAD = {"user": "U0007", "data": "pair", "llm": "deepseek/v3", "prompt": "generate@1", "file": "generate.md"}
DRY = {**HEAD, "exchanges": [EXCHANGE], "most_usd": 0.001234, "notes": []}
DONE = {
    **{**HEAD, "exchanges": [{**EXCHANGE, "reply": '{"items": [{"title": "[b]Pan[/b]"}]}', **USAGE}]},
    **{"calls": 1, "mended": {"trailing comma": 1}, "failed": [], "cost_usd": 0.0004, "spent_usd": 0.0004},
    **{"items": [{**ITEM, **SCORED}, {**ITEM, **SCORED, "title": "Wok", "kept": False, "reason": "tau"}]},
    "notes": ["tau is the one of the built-in prompts"],
}


@pytest.fixture
def own(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "ws")
    with workspace.dataset("pair").create(data_key="k1") as (folder, manifest):
        manifest |= save(dataset_of(histories()), folder)
    return workspace


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run, none of which is; they are answered as by `deepseek`."""
    commands: list[list[str]] = []

    async def output_of(words: list[str]) -> Output:
        assert words[:3] == [sys.executable, "-m", "edt_cli"]
        commands.append(words[3:])
        await asyncio.sleep(0)
        return Output(0, json.dumps(DRY if "--dry-run" in words else DONE).encode(), b"")

    monkeypatch.setattr(trial, "output_of", output_of)
    return commands


def test_nothing_is_spent_before_a_question_with_the_price(own, asked):
    async def step(pilot: Pilot[None]) -> None:
        app = pilot.app
        await press(pilot, ["5", "slash", *typed("U0007"), "enter", "enter", "a"])
        form = app.screen
        assert isinstance(form, TrialForm)
        assert "edt prompts try generate --user U0007 --data pair" in text_of(app)
        form.query_one("#llm", Select).value = "deepseek"
        await seen(pilot, "give a budget in USD")
        await press(pilot, ["ctrl+s"])
        assert app.screen is form and not asked
        form.query_one("#budget").focus()
        await press(pilot, [*typed("0.01"), "ctrl+s"])
        text = await seen(pilot, "0.001234 USD at most")
        assert "asks deepseek/v3, which may send a bill" in text and "1 question" in text
        assert len(asked) == 1 and "--dry-run" in asked[0] and "--yes" not in asked[0]
        await press(pilot, ["escape"])
        assert len(asked) == 1
        await press(pilot, ["a"])
        app.screen.query_one("#llm", Select).value = "deepseek"
        app.screen.query_one("#budget").focus()
        await press(pilot, [*typed("0.01"), "ctrl+s"])
        await seen(pilot, "at most")
        await press(pilot, ["y"])
        await seen(pilot, "1 call, 0.000400 USD")
        text = await seen(pilot, "A user bought:")
        assert isinstance(app.screen, TrialScreen) and "A user bought:" in text
        assert '{"items": [{"title": "[b]Pan[/b]"}]}' in text and "mended: 1 trailing comma" in text
        assert "321 tokens in, 45 out" in text and "tau is the one of the built-in" in text
        await press(pilot, ["2"])
        kept, left = [line for line in text_of(app).splitlines() if " kitchen " in line][:2]
        assert kept.split()[:3] == [">yes", "kitchen", "[b]Pan[/b]"] and "0.910" in kept and "0.750" in kept
        assert left.split()[:3] == ["no", "kitchen", "Wok"] and "tau" in left
        await press(pilot, ["y"])
        assert app.clipboard == " ".join(["edt", *asked[-1][: asked[-1].index("--yes")]])

    drive(EdtApp(own), step, (120, 36))
    told = ["prompts", "try", "generate", "--user", "U0007", "--data", "pair", "--provider", "deepseek"]
    assert asked[-1][:11] == [*told, "--max-cost", "0.01"]
    assert asked[-1][11:] == ["--yes", "--json", "--workspace", str(own.root)]


def test_from_a_reply_its_prompt_and_its_user_and_what_went_wrong(workspace, monkeypatch):
    async def output_of(words: list[str]) -> Output:
        return Output(1, b"", b"note\nerror: there is no user 'U0002'\n")

    monkeypatch.setattr(trial, "output_of", output_of)

    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["6", "a"])
        assert "edt prompts try generate --user U0002" in text_of(pilot.app)
        await press(pilot, ["ctrl+s"])
        assert "error: there is no user 'U0002'" in await seen(pilot, "no reply")
        await press(pilot, ["escape"])
        assert "[6 LLM]" in text_of(pilot.app)

    drive(EdtApp(workspace), step, (100, 30))


@pytest.mark.slow
def test_local_is_asked_by_a_process_and_costs_nothing(own):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["6", "a", "ctrl+s"])
        await seen(pilot, "which cost nothing", 200)
        await seen(pilot, "reads no prompt")
        await press(pilot, ["2"])
        assert " yes " in text_of(pilot.app) or " no " in text_of(pilot.app)

    drive(EdtApp(own), step, (120, 36))


def test_the_price_of_a_trial():
    assert price_of({"calls": 2, "cost_usd": None, "spent_usd": 0.0}) == "2 calls, at a price that is not known"
    assert price_of({"calls": 1, "cost_usd": 0.0, "spent_usd": 0.0}) == "1 call, which cost nothing"
    assert price_of({"calls": 3, "cost_usd": 0.5, "spent_usd": 0.2}) == "3 calls, 0.500000 USD, 0.200000 of it now"
