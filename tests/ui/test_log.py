"""The log of a run is kept whole in bounded memory: 50,000 lines are searched, followed and read where they are."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from made import NOW, beat, events_of, run
from screens import text_of
from test_app import drive, seen, typed
from textual.pilot import Pilot

from edt_cli.ui.app import EdtApp
from edt_cli.ui.followed import Followed
from edt_cli.ui.log import Log, messages
from edt_cli.ui.rows import Rows
from edt_cli.ui.screenshots import press
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e

LINES = 50_000


def told(n: int, text: str = "") -> str:
    fields = {"n": n, "time": NOW + n, "event": "remark", "message": text or f"line {n} of many {'m' * 60}"}
    return json.dumps(fields) + "\n"


def talker(root: Path, count: int) -> Path:
    """Return the folder of a run at work that says much."""
    folder = run(Workspace(root / "ws"), "talker", {"epochs": 0, "of": 9}, model="sasrec")
    (folder / "events.jsonl").write_text("".join(map(told, range(count))))
    beat(folder, pid=os.getpid(), time=4e9)
    return folder


def test_a_line_of_a_log_takes_no_more_than_its_place(tmp_path):
    count = 6000
    folder = talker(tmp_path, count)
    followed = Followed(Workspace(tmp_path / "ws"), folder)
    followed.take(followed.read())
    begun = len(followed.log)
    tracemalloc.start()
    followed.catch_up()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert begun < count == len(followed.log)
    assert grown < 100 * (count - begun)  # each text alone takes 130 bytes
    assert [followed.log.line(n) for n in (0, count - 1)] == [
        (NOW + n, f"line {n} of many {'m' * 60}") for n in (0, count - 1)
    ]


def test_a_log_of_50_000_lines_is_searched_and_followed(tmp_path):
    long = talker(tmp_path, LINES)

    async def step(pilot: Pilot[None]) -> None:
        rows = pilot.app.screen.query_one("#pane-log Rows", Rows)
        await press(pilot, ["6"])
        await seen(pilot, f"line {LINES - 1} of many")
        assert rows.count == LINES and rows.cursor == LINES - 1
        with (long / "events.jsonl").open("a") as file:
            file.write(told(LINES, "a word that comes once"))
        await seen(pilot, "a word that comes once")
        await press(pilot, ["g"])
        assert "line 0 of many" in text_of(pilot.app)
        await press(pilot, ["slash", *typed("line 123"), "enter"])
        wanted = sum("123" in str(n) for n in range(LINES))
        while rows.count < wanted:
            await pilot.pause(0.05)
        with (long / "events.jsonl").open("a") as file:
            file.write(told(LINES + 1, "line 123 once more"))
        await press(pilot, ["G"])
        await seen(pilot, "line 123 once more")
        assert rows.count == wanted + 1
        await press(pilot, ["slash", "ctrl+u", "enter"])
        while rows.count < LINES + 2:
            await pilot.pause(0.05)

    drive(EdtApp(Workspace(long.parents[1]), long), step, (100, 30))


def test_lines_of_two_files_stand_in_the_order_of_their_times(tmp_path):
    for name, times in (("job", (1, 9)), ("run", (2, 3, 5))):
        events_of(tmp_path / name, [{"event": "remark", "time": t, "message": f"{name} {t}"} for t in times])
    log, moments = Log(), {"job": (1, 9), "run": (2, 3, 5)}
    for name, times in moments.items():
        offset, path = 0, tmp_path / name / "events.jsonl"
        for moment, line in zip(times, path.read_bytes().splitlines(keepends=True), strict=True):
            log.add(path, moment, offset)
            offset += len(line)
    assert [log.line(n) for n in range(5)] == [
        (1, "job 1"),
        (2, "run 2"),
        (3, "run 3"),
        (5, "run 5"),
        (9, "job 9"),
    ]
    assert log.moved == 3
    places = log.places(0, 5)
    assert list(messages(places)) == ["job 1", "run 2", "run 3", "run 5", "job 9"]
    log.forget(tmp_path / "job" / "events.jsonl")
    assert [log.line(n)[1] for n in range(len(log))] == ["run 2", "run 3", "run 5"]
    (tmp_path / "run" / "events.jsonl").unlink()
    assert "".join(messages(places[1:4])) == ""
