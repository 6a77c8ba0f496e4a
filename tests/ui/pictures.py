"""Make the pictures of the app that the README and docs/app.md show, from a workspace with runs.

python tests/ui/pictures.py WORKSPACE examples/screens            # SVG, as Textual draws them
python tests/ui/pictures.py WORKSPACE /tmp/shots --png            # and PNG: pip install resvg-py

The workspace has a few finished runs on the demo, one of them with an augmentation, and a run and an LLM job at
work: `edt train --data demo`, with `--preset paper`, `--model sasrec`, `--model gru4rec`, `--model item-knn`, and
`edt augment` against tests/backends/model_server.py.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from edt_cli.inference.listing import RunRow, model_of, read_runs
from edt_cli.ui.app import EdtApp
from edt_cli.ui.library import live_jobs
from edt_cli.ui.screenshots import press, settled
from edt_cli.workspace.events import read_events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.status import RunStatus

MIDDLE, LARGE = (120, 36), (200, 60)
RESTS_S = 3.0
"""Time until the machine was read and what is at work was heard of."""


@dataclass(frozen=True)
class Picture:
    """A picture: its name, the keys that lead to it, the run or job that it begins with, its size and theme."""

    name: str
    keys: Sequence[str] = ()
    attach: Path | None = None
    size: tuple[int, int] = MIDDLE
    light: bool = False


def pictures_of(workspace: Workspace) -> list[Picture]:
    """Return the pictures for what there is in a workspace."""
    rows = read_runs(workspace)
    done = [row for row in rows if row.status == RunStatus.FINISHED]
    trained = sorted((row for row in done if _epochs(row)), key=lambda row: -row.figures.get(_first(row), 0.0))
    best = trained[0]
    live = next((row.folder for row in rows if row.status.live), best.folder)
    job = next((folder for folder in live_jobs(workspace) if "augment" in folder.name), None)
    with_items = next((row for row in trained if "augmentation" in row.plan.get("artefacts", {})), best)
    four = ["slash", *"finished", "enter", *["space"] * 4, "c"]
    user = ["5", "slash", *"inserted", "greater_than_sign", "1", "enter", "enter", *"jjjjj"]
    return [
        Picture("home", ["0"]),
        Picture("home-wide", ["0"], size=LARGE),
        Picture("home-light", ["0"], light=True),
        Picture("run", ["1"], attach=live),
        Picture("result", ["2"], attach=best.folder),
        Picture("runs", ["2"]),
        Picture("systems", ["2", "b"]),
        Picture("compare", ["2", *four]),
        Picture("table", ["4"]),
        Picture("user", user if with_items is not best or model_of(best.plan) == "llm-edt" else ["5", "enter"]),
        *([Picture("job", attach=job)] if job else []),
        Picture("form", ["n"]),
    ]


def _epochs(row: RunRow) -> int:
    return sum(event.event == "epoch" for event in read_events(row.folder))


def _first(row: RunRow) -> str:
    return next((name for name in row.figures if name.startswith("ndcg_")), "")


async def draw(workspace: Workspace, picture: Picture) -> str:
    """Return a picture as SVG."""
    app = EdtApp(workspace, picture.attach, ascii_only=False, colour=True, light=picture.light)

    async def walk(pilot: Pilot[None]) -> None:
        await press(pilot, list(picture.keys))
        await pilot.pause(RESTS_S)
        await settled(pilot)

    async with app.run_test(size=picture.size) as pilot:
        await walk(pilot)
        return app.export_screenshot(title="edt")


def main() -> None:
    """Draw the pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--png", action="store_true")
    given = parser.parse_intermixed_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures_of(Workspace(given.workspace)):
        if given.names and picture.name not in given.names:
            continue
        svg = asyncio.run(draw(Workspace(given.workspace), picture))
        (given.folder / f"{picture.name}.svg").write_text(svg)
        if given.png:
            import resvg_py

            png = resvg_py.svg_to_bytes(svg_string=svg, monospace_family="DejaVu Sans Mono")
            (given.folder / f"{picture.name}.png").write_bytes(bytes(png))
        sys.stdout.write(f"{picture.name}\n")


if __name__ == "__main__":
    main()
