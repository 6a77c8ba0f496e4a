"""Each screen at five sizes, as text. `EDT_SNAPSHOTS=write pytest tests/ui/test_snapshots.py` renews them;
look at what changed before it is committed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from rich.cells import cell_len
from screens import figures_shown, text_of

from edt_cli.ui.screenshots import press, settled

pytestmark = pytest.mark.e2e

KEPT = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (100, 30), (120, 36), (160, 48), (200, 60))
LIVE, FULL = "pair-llm-edt-s46-ffff", "pair-llm-edt-s42-aaaa"
Walk = list[tuple[str, list[str]]]
WALKS: dict[str, tuple[str | None, Walk]] = {
    "workspace": (
        None,
        [
            ("home", []),
            ("datasets", ["1", "j"]),
            ("damaged-dataset", ["g"]),
            ("damaged-run", ["2", "g"]),
            ("runs", ["j", "j"]),
            ("filter", [*"/!damaged"]),
            ("help", ["escape", "question_mark"]),
            ("tables", ["escape", "4"]),
            ("paper-table", ["G"]),
            ("users", ["5"]),
            ("timeline", ["enter"]),
            ("generated", ["2"]),
            ("profile", ["3"]),
            ("llm", ["escape", "6", "tab", "j"]),
            ("compare", ["2", *"/status=finished", "enter", "g", *"   ", "3"]),
        ],
    ),
    "a run at work": (LIVE, [("live", []), ("stop", ["x"])]),
    "a finished run": (
        FULL,
        [
            ("results", []),
            ("run", ["1"]),
            ("groups", ["3"]),
            ("settings", ["4"]),
            ("manifest", ["5"]),
            ("log", ["6"]),
        ],
    ),
    "a job of an LLM": ("jobs", [("job", [])]),
}
NAMES = {"/": "slash", " ": "space", "!": "exclamation_mark", "=": "equals_sign"}


@pytest.mark.parametrize("walk", WALKS)
def test_the_screens_are_as_they_were_looked_at(walk, app_on, still):
    """One session walks from screen to screen, and each is seen at every size."""
    attach, screens = WALKS[walk]
    texts: dict[str, str] = {}

    async def walked() -> None:
        app = app_on(attach)
        async with app.run_test(size=SIZES[0]) as pilot:
            await settled(pilot)
            await pilot.pause(0.2)
            for name, keys in screens:
                await press(pilot, [NAMES.get(key, key) for key in keys])
                for size in SIZES:
                    if size != tuple(app.size):
                        await pilot.resize_terminal(*size)
                        await settled(pilot)
                    while name == "live" and "CPU" not in text_of(app):
                        await pilot.pause(0.05)
                    text = texts[f"{name}-{size[0]}x{size[1]}"] = text_of(app)
                    assert all(cell_len(line) <= size[0] for line in text.splitlines())
                    figures_shown(app)
                await pilot.resize_terminal(*SIZES[0])
                await settled(pilot)

    asyncio.run(walked())
    different = []
    for name, text in texts.items():
        kept = KEPT / f"{name}.txt"
        if os.environ.get("EDT_SNAPSHOTS") == "write":
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(text, "utf-8")
        if not kept.is_file() or text != kept.read_text("utf-8"):
            different.append(f"{name}:\n{text}")
    assert not different, "\n".join(different)


def test_every_snapshot_is_of_a_screen():
    names = {f"{name}-{w}x{h}.txt" for _, walk in WALKS.values() for name, _ in walk for w, h in SIZES}
    assert {path.name for path in KEPT.iterdir()} == names
