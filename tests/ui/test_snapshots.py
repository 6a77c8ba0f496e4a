"""Each screen at 80x24 and 160x48, as text. `EDT_SNAPSHOTS=write pytest tests/ui/test_snapshots.py` renews them;
look at what changed before it is committed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from rich.cells import cell_len
from screens import text_of

from edt_cli.ui.screenshots import press

pytestmark = pytest.mark.e2e

KEPT = Path(__file__).parent / "snapshots"
LIVE, FULL = "pair-llm-edt-s46-ffff", "pair-llm-edt-s42-aaaa"
SCREENS: dict[str, tuple[str | None, list[str]]] = {
    "datasets": (None, ["1"]),
    "damaged-dataset": (None, ["1", "g"]),
    "runs": (None, ["2"]),
    "damaged-run": (None, ["2", "G"]),
    "filter": (None, ["2", "slash", *"!damaged"]),
    "compare": (None, ["2", *"/model:llm-edt status=finished", "enter", "space", "space", "3"]),
    "tables": (None, ["4"]),
    "paper-table": (None, ["4", "G"]),
    "users": (None, ["5"]),
    "timeline": (None, ["5", "enter"]),
    "generated": (None, ["5", "enter", "2"]),
    "profile": (None, ["5", "enter", "3"]),
    "llm": (None, ["6", "j"]),
    "help": (None, ["2", "question_mark"]),
    "live": (LIVE, []),
    "stop": (LIVE, ["x"]),
    "run": (FULL, []),
    "results": (FULL, ["2"]),
    "groups": (FULL, ["3"]),
    "settings": (FULL, ["4"]),
    "manifest": (FULL, ["5"]),
    "log": (FULL, ["6"]),
}


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])
@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_is_as_it_was_looked_at(name, size, app_on, still):
    attach, keys = SCREENS[name]

    async def shown() -> str:
        app = app_on(attach)
        async with app.run_test(size=size) as pilot:
            await press(pilot, ["slash" if key == "/" else "space" if key == " " else key for key in keys])
            while attach == LIVE and "CPU" not in text_of(app):
                await pilot.pause(0.05)
            return text_of(app)

    text = asyncio.run(shown())
    assert all(cell_len(line) <= size[0] for line in text.splitlines())
    kept = KEPT / f"{name}-{size[0]}x{size[1]}.txt"
    if os.environ.get("EDT_SNAPSHOTS") == "write":
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(text, "utf-8")
    assert text == kept.read_text("utf-8")
