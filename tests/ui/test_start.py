"""What the first drawing of the app has imported, and what comes after it: told by the modules, not by a clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from screens import text_of
from test_app import drive
from textual.pilot import Pilot

from edt_cli.ui import home
from edt_cli.ui.home import Home
from edt_cli.ui.screenshots import press

pytestmark = pytest.mark.e2e

HEAVY = {"torch", "numpy", "polars", "duckdb", "pyarrow", "scipy", "sklearn", "litellm", "plotext", "matplotlib"}
LATER = {
    *(f"edt_cli.ui.{name}" for name in ("acts", "compare", "datasets", "export", "form", "llm", "palette")),
    *(f"edt_cli.ui.{name}" for name in ("run_screen", "runs", "tables", "user_screen", "users", "watch")),
    *("edt_cli.reporting.tables", "edt_cli.reporting.render", "edt_cli.pipeline", "edt_cli.api.session"),
}
CODE = """
import json, sys
from pathlib import Path
from edt_cli.cli import app
from edt_cli.ui.app import EdtApp
from edt_cli.ui.home import Home
from edt_cli.workspace.layout import Workspace

async def mount_others(home):
    rows = home.pane("Home").query_one("#board").count
    home.app.exit()
    print(json.dumps([rows, sorted(sys.modules)]), file=sys.__stdout__)

Home._mount_others = mount_others
EdtApp(Workspace(Path(sys.argv[1])), ascii_only=False).run(headless=True, size=(80, 24))
"""


def test_the_first_rows_come_before_what_they_do_not_need(made_once):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(made_once)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("["))
    rows, modules = json.loads(line)
    assert rows == 2 and "edt_cli.ui.dashboard" in modules
    assert not {name.split(".")[0] for name in modules} & HEAVY
    assert not LATER & set(modules)
    # All of them exist, or nothing here could fail.
    assert all(__import__(name) for name in LATER)


def test_a_key_before_the_sections_are_there_is_obeyed_when_they_are(app_on, monkeypatch):
    mount_others = Home._mount_others

    async def mounted(screen: Home) -> None:
        screen.action_section("2")
        assert screen.chosen == "Home"
        await mount_others(screen)

    monkeypatch.setattr(Home, "_mount_others", mounted)

    async def step(pilot: Pilot[None]) -> None:
        assert "[2 Runs 8]" in text_of(pilot.app) and "8 of 8" in text_of(pilot.app)

    drive(app_on(), step)


def test_the_newest_runs_are_drawn_first_and_then_all(app_on, monkeypatch):
    monkeypatch.setattr(home, "FIRST_RUNS", 3)
    first: list[list[str]] = []
    mount_others = Home._mount_others

    async def mounted(screen: Home) -> None:
        first.append([row.name[-4:] for row in screen.shelf.runs])
        assert "reading" in text_of(screen.app).splitlines()[0]
        await mount_others(screen)

    monkeypatch.setattr(Home, "_mount_others", mounted)

    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2"])
        assert "8 of 8" in text_of(pilot.app)
        assert first == [[row.name[-4:] for row in pilot.app.screen.shelf.runs[:3]]]

    drive(app_on(), step)
