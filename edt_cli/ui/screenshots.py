"""Screenshots of every screen as SVG in two sizes, made from a workspace; the README shows some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot

from edt_cli.config import UserError
from edt_cli.inference.listing import read_runs
from edt_cli.ui.app import EdtApp
from edt_cli.ui.screen import EdtScreen
from edt_cli.workspace.files import write_atomic
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.status import RunStatus

SIZES = {"80x24": (80, 24), "120x36": (120, 36), "160x48": (160, 48), "200x60": (200, 60)}
LONGEST_S = 30.0
Shot = tuple[str, list[str]]
SHOTS: list[Shot] = [
    ("home", ["0"]),
    ("datasets", ["1"]),
    ("form", ["n"]),
    ("runs", ["2"]),
    ("systems", ["2", "b"]),
    ("compare", ["2", "slash", *"finished", "enter", "space", "space", "space", "c"]),
    ("tables", ["4"]),
    ("users", ["5"]),
    ("user", ["5", "enter"]),
    ("llm", ["6"]),
    ("help", ["2", "question_mark"]),
]
"""Name of each screenshot, and the keys that lead there from the workspace."""


def write_all(workspace: Workspace, folder: Path, *, light: bool, ascii_only: bool) -> list[Path]:
    """Write the screenshots and return their files.

    Raises:
        UserError: If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_write_all(workspace, folder, light, ascii_only))
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None


async def _write_all(workspace: Workspace, folder: Path, light: bool, ascii_only: bool) -> list[Path]:
    trained = [row for row in await asyncio.to_thread(read_runs, workspace) if row.status == RunStatus.FINISHED]
    longest = max(trained, key=lambda row: _file_size(row.folder / "events.jsonl"), default=None)
    written = []
    for name, size in SIZES.items():
        shots: list[tuple[str, Path | None, list[str]]] = [(shot, None, keys) for shot, keys in SHOTS]
        shots += [("run", longest.folder, ["1"]), ("result", longest.folder, ["2"])] if longest else []
        for shot, attach, keys in shots:
            app = EdtApp(workspace, attach, ascii_only=ascii_only, colour=True, light=light)
            path = folder / f"{shot}-{name}.svg"

            async def shoot(pilot: Pilot[None], keys: list[str] = keys, path: Path = path) -> None:
                await press(pilot, keys)
                write_atomic(path, pilot.app.export_screenshot(title="edt"))

            await _with(app, size, shoot)
            written.append(path)
    return written


async def _with(app: EdtApp, size: tuple[int, int], do: Callable[[Pilot[None]], Awaitable[None]]) -> None:
    async with app.run_test(size=size) as pilot:
        await do(pilot)


async def press(pilot: Pilot[None], keys: list[str]) -> None:
    """Press keys one after the other, waiting each time until nothing is being read."""
    await settled(pilot)
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


async def settled(pilot: Pilot[None]) -> None:
    """Wait until nothing is being read."""
    app = pilot.app
    for _ in range(int(LONGEST_S / 0.02)):
        await pilot.pause(0.02)
        reading = isinstance(app.screen, EdtScreen) and app.screen.reading
        if not reading and all(worker.is_finished for worker in app.workers):
            break
    await pilot.pause()


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
