"""Keys are pressed in the real app, and what happened is looked at: on the screen and on the disk."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from made import HOSTILE, beat, epochs, events_of, make_workspace, run
from rich.cells import cell_len
from screens import lines_of, text_of
from textual import events
from textual.drivers.headless_driver import HeadlessDriver
from textual.geometry import Offset
from textual.pilot import Pilot
from typer.testing import CliRunner

from edt_cli.cli.app import app as edt
from edt_cli.config import UserError
from edt_cli.inference.listing import RunRow
from edt_cli.ui.app import EdtApp
from edt_cli.ui.chart import Chart
from edt_cli.ui.followed import Followed
from edt_cli.ui.library import find_followed
from edt_cli.ui.plot import cell_of, number
from edt_cli.ui.rows import Rows
from edt_cli.ui.run_screen import RunScreen
from edt_cli.ui.screenshots import press, settled
from edt_cli.ui.sections import Sections
from edt_cli.ui.user_screen import UserScreen, _rank
from edt_cli.workspace.layout import Workspace

pytestmark = pytest.mark.e2e

LIVE = "pair-llm-edt-s46-ffff"
Step = Callable[[Pilot[None]], Awaitable[None]]


def drive(app: EdtApp, step: Step, size: tuple[int, int] = (80, 24)) -> None:
    async def all_of_it() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await settled(pilot)
            await step(pilot)

    asyncio.run(all_of_it())


def typed(text: str) -> list[str]:
    names = {" ": "space", "/": "slash", "!": "exclamation_mark", ":": "colon", ">": "greater_than_sign"}
    names |= {",": "comma", ".": "full_stop", "=": "equals_sign", "_": "underscore", "-": "minus"}
    return [names.get(char, char) for char in text]


@pytest.fixture
def own(tmp_path: Path) -> Workspace:
    """A workspace to write to, with one run that this process seems to be making."""
    workspace = Workspace(tmp_path / "ws")
    folder = run(workspace, "mine-s1", {"epochs": 3, "of": 50})
    beat(folder, pid=os.getpid(), time=4e9, stage="pre-training epoch 4", done=2, total=8)
    return workspace


def control(workspace: Workspace, name: str = "mine-s1") -> str | None:
    path = workspace.runs / name / "control.json"
    return json.loads(path.read_text())["request"] if path.exists() else None


async def seen(pilot: Pilot[None], words: str, seconds: float = 40.0) -> str:
    """Wait until the screen shows `words`."""
    for _ in range(int(seconds / 0.1)):
        if words in (text := text_of(pilot.app)):
            return text
        await pilot.pause(0.1)
    raise AssertionError(f"{words!r} never came:\n{text_of(pilot.app)}")


def test_sections_by_number_by_the_arrows_and_by_mouse(app_on):
    async def step(pilot: Pilot[None]) -> None:
        for key, word in (("1", "[1 Datasets"), ("4", "[4 Tables"), ("0", "[0 Home")):
            await press(pilot, [key])
            assert word in text_of(pilot.app)
        await press(pilot, ["shift+tab", "right"])
        assert "[1 Datasets" in text_of(pilot.app) and isinstance(pilot.app.focused, Sections)
        column = text_of(pilot.app).splitlines()[1].index("2 Runs")
        await pilot.click("#sections", offset=(column, 0))
        await settled(pilot)
        assert "[2 Runs" in text_of(pilot.app)

    drive(app_on(), step)


def test_a_filter_of_fields_and_comparisons(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2", "slash", *typed("model:llm-edt ndcg_food>.42 !damaged"), "enter"])
        text = text_of(pilot.app)
        assert "1 of 8" in text and "pair-llm-edt-s44-bbbb" in text and "pair-llm-edt-s42-aaaa" not in text
        await press(pilot, ["slash", "ctrl+u", *typed("seed>x"), "enter"])
        assert any("takes a number" in told.message for told in pilot.app._notifications)
        await press(pilot, ["slash", "ctrl+u", *typed("status=stopped"), "enter"])
        assert "1 of 8" in text_of(pilot.app)

    drive(app_on(), step)


def test_o_sorts_on_the_column_of_the_cursor(app_on):
    async def step(pilot: Pilot[None]) -> None:
        rows = pilot.app.screen.query_one("#pane-runs Rows", Rows)
        pane = pilot.app.screen.query_one("#pane-runs")
        await press(pilot, ["2", "l", "l", "o"])
        assert [row.name[-4:] for row in pane.rows[:3]] == ["bbbb", "aaaa", "cccc"]
        assert rows.sorted_by == ("ndcg_food", True)
        await press(pilot, ["o"])
        assert [row.name[-4:] for row in pane.rows[:3]] == ["cccc", "aaaa", "bbbb"]
        await press(pilot, ["h", "h", "o", "G"])
        assert pane.rows[rows.cursor].name == "pair-sasrec-s46-eeee"

    drive(app_on(), step)


def test_runs_by_system_have_means_and_deviations(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2", "b"])
        lines = text_of(pilot.app).splitlines()
        assert "2 systems of 8 runs" in lines[2] and lines[4].startswith(">LLM-EDT (paper)")
        values = [row.figures["ndcg_food"] for row in pilot.app.screen.pane("Runs").groups[0].rows]
        deviation = f"{abs(values[0] - values[1]) / 2**0.5:.4f}".removeprefix("0")
        assert f"2 {sum(values) / 2:.4f}±{deviation}" in lines[4] and "±" not in lines[5]
        await press(pilot, ["l", "l", "o", "o"])
        assert text_of(pilot.app).splitlines()[4].startswith(">SASRec")
        await press(pilot, ["G", "space"])
        assert pilot.app.screen.shelf.marked == {"pair-llm-edt-s42-aaaa", "pair-llm-edt-s44-bbbb"}
        await press(pilot, ["b"])
        assert "8 of 8  2 marked" in text_of(pilot.app)

    drive(app_on(), step)


def test_marked_runs_are_compared_with_a_paired_interval(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2", "slash", *typed("status=finished"), "enter", "space", "j", "space"])
        assert "2 marked" in text_of(pilot.app) and "3 Compare 2" in text_of(pilot.app)
        await press(pilot, ["M"])
        assert "marked" not in text_of(pilot.app) and "3 Compare 2" not in text_of(pilot.app)
        await press(pilot, ["g", "space", "j", "space"])
        await press(pilot, ["c"])
        text = text_of(pilot.app)
        assert "llm-edt-s42 is first" in text
        assert "model.name" in text and "sasrec" in text and "training.lr" not in text
        (line,) = [line for line in text.splitlines() if "sasrec" in line and "food" in line]
        low, high = json.loads(line[line.index("[") : line.index("]") + 1].replace("+", ""))
        assert low < high
        await press(pilot, ["f"])
        assert "sasrec-s42 is first" in text_of(pilot.app)

    drive(app_on(), step, (100, 40))


def test_tables_are_copied_as_latex_and_as_markdown(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["4", "y"])
        assert r"\begin{tabular}" in pilot.app.clipboard and "SASRec" in pilot.app.clipboard
        await press(pilot, ["Y"])
        assert pilot.app.clipboard.startswith("**Table 2")
        await press(pilot, ["G", "enter", "j", "l"])
        assert pilot.app.focused is not None and pilot.app.focused.id == "table"
        await press(pilot, ["y"])
        assert "Different backbones" in pilot.app.clipboard

    drive(app_on(), step)


def test_a_user_from_the_list_to_the_profile_and_back(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["5", "slash", *typed("0007"), "enter"])
        assert "1 of 40" in text_of(pilot.app)
        await press(pilot, ["slash", "ctrl+u", *typed("inserted>99"), "enter"])
        assert "no user has that" in text_of(pilot.app)
        await press(pilot, ["slash", "ctrl+u", *typed("inserted>0"), "enter", "enter"])
        text = text_of(pilot.app)
        assert "U0000" in text and "made up" in text and " + " in text and "test" in text
        strip = text.splitlines()[3]
        assert "+k f f f f k" in strip and "valid k" in strip and "test k" in strip
        assert "own items 0.900, kitchen 0.800 (tau 0.750)" in " ".join(text.split())
        await press(pilot, ["2"])
        assert "0.900" in text_of(pilot.app) and "0.750" in text_of(pilot.app)
        await press(pilot, ["escape"])
        assert "[5 Users" in text_of(pilot.app)

    drive(app_on(), step)


def test_recommendations_are_of_the_run_one_came_from_with_the_held_out_item_and_its_rank(app_on, monkeypatch):
    asked = []

    async def recommend(screen: UserScreen, row: RunRow) -> None:
        (held_out,) = (item for item in screen.document["history"] if item["part"] == "test")
        asked.append(row.name)
        items = [{"rank": n, "title": f"t{n}", "score": 1 / n, "item": f"i{n}"} for n in (1, 2)]
        hit = [{**items[0], "item": held_out["item"]}] if len(asked) > 1 else items
        out = json.dumps({"users": {screen.user_name: {"food": items, "kitchen": hit}}})
        screen._show_recommended(row, out.encode(), "", held_out, _rank(row.folder, screen.user))

    monkeypatch.setattr(UserScreen, "_run_recommend", recommend)

    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2", "slash", *typed("cccc"), "enter", "enter", "u"])
        await seen(pilot, "[5 Users")
        await press(pilot, ["enter", "4"])
        lines = text_of(pilot.app).splitlines()
        (missed,) = [line for line in lines if "held out" in line]
        assert "by pair-sasrec-s42-cccc" in lines[2] and missed.lstrip("> ").split()[1] == "kitchen"
        await press(pilot, ["r"])
        (hit,) = [line for line in text_of(pilot.app).splitlines() if "held out" in line]
        assert hit.split()[:3] == [">", "1", "kitchen"]

    drive(app_on(), step, (100, 30))
    assert asked[0] == "pair-sasrec-s42-cccc" and asked[1] != asked[0]


def test_the_users_of_a_run_from_the_list_and_from_its_screen(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["5", "2", "slash", *typed("bbbb"), "enter", "u"])
        assert "users of pair as pair-llm-edt-s44-bbbb has them" in await seen(pilot, "[5 Users")
        await press(pilot, ["2", "slash", "ctrl+u", *typed("aaaa"), "enter", "enter"])
        assert isinstance(pilot.app.screen, RunScreen)
        await press(pilot, ["u"])
        await seen(pilot, "users of pair as pair-llm-edt-s42-aaaa has them")
        assert "[5 Users" in text_of(pilot.app)

    drive(app_on(), step)

    async def without_a_workspace(pilot: Pilot[None]) -> None:
        await press(pilot, ["u"])
        assert any("from the workspace" in told.message for told in pilot.app._notifications)

    drive(app_on(LIVE), without_a_workspace)


def test_hostile_text_is_text_and_every_line_is_as_wide_as_the_screen(app_on):
    async def step(pilot: Pilot[None]) -> None:
        for key in ("5", "enter", "2", "3", "1", *"jjjjjjj"):
            await press(pilot, [key])
            for line in lines_of(pilot.app):
                text = "".join(segment.text for segment in line)
                assert cell_len(text) == 80
                assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\u200d", "\ufe0f", "\t"}
        text = text_of(pilot.app)
        assert "[red]not red[/red]" in text and "\u05e9\u05dc\u05d5\u05dd" in text and "広い文字" in text
        assert len(HOSTILE["a4"]) >= 10_000

    drive(app_on(), step)


def test_q_and_ctrl_c_close_the_view_and_ask_nothing_of_the_run(own):
    for key in ("q", "ctrl+c", "d"):

        async def step(pilot: Pilot[None], key: str = key) -> None:
            assert "> training" in text_of(pilot.app)
            await pilot.press(key)
            await pilot.pause()
            assert not pilot.app.is_running or pilot.app._exit

        drive(EdtApp(own, own.runs / "mine-s1"), step)
        assert control(own) is None


def test_the_view_of_a_process_ends_with_it(own):
    class Process:
        ended: int | None = None

        def code(self) -> int | None:
            return self.ended

    process = Process()

    async def step(pilot: Pilot[None]) -> None:
        await pilot.pause(1.2)
        assert not pilot.app._exit
        process.ended = 0
        for _ in range(400):
            if pilot.app._exit:
                return
            await pilot.pause(0.1)
        raise AssertionError("the view stays open")

    drive(EdtApp(own, own.runs / "mine-s1", process), step)


def test_pause_go_on_and_stop_are_asked_of_the_run(own):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["p"])
        assert control(own) == "pause" and "(pause asked)" in text_of(pilot.app)
        await press(pilot, ["p"])
        assert control(own) == "run"
        await press(pilot, ["x", "escape"])
        assert control(own) == "run"
        await press(pilot, ["x", "e"])
        assert control(own) == "stop-after-epoch"
        await press(pilot, ["x", "n"])
        assert control(own) == "stop-now"
        with (own.runs / "mine-s1" / "events.jsonl").open("a") as file:
            file.write('{"n": 99, "event": "stopped", "request": "stop-now"}\n')
        await seen(pilot, "o stopped")
        (own.runs / "mine-s1" / "control.json").unlink()
        await press(pilot, ["p", "x"])
        assert control(own) is None and "x Stop" not in text_of(pilot.app)

    drive(EdtApp(own, own.runs / "mine-s1"), step)


def test_what_is_appended_torn_truncated_and_replaced_is_followed(own):
    folder = own.runs / "mine-s1"
    path = folder / "events.jsonl"

    async def step(pilot: Pilot[None]) -> None:
        await seen(pilot, "epoch 3/50")
        whole = json.dumps({"event": "epoch", "phase": "pre-training", "epoch": 4, "epochs": 50, "time": 1.0})
        with path.open("a") as file:
            file.write(whole[:30])
        await pilot.pause(0.8)
        assert "epoch 3/50" in text_of(pilot.app)
        with path.open("a") as file:
            file.write(whole[30:] + "\n")
        await seen(pilot, "epoch 4/50")
        events_of(folder, epochs("pre-training", 1, 60))
        await seen(pilot, "epoch 1/60")
        other = path.with_name("other")
        other.mkdir()
        events_of(other, epochs("pre-training", 7, 70))
        (other / "events.jsonl").replace(path)
        await seen(pilot, "epoch 7/70")

    drive(EdtApp(own, folder), step)


def test_a_run_whose_process_is_gone_is_silent_and_one_elsewhere_by_its_age(own):
    beat(own.runs / "mine-s1", pid=2**22 + 1)

    async def step(pilot: Pilot[None]) -> None:
        await seen(pilot, "? silent")
        beat(own.runs / "mine-s1", pid=1, host="elsewhere", time=4e9)
        await seen(pilot, "at work on elsewhere")
        beat(own.runs / "mine-s1", pid=1, host="elsewhere", time=1e9)
        await seen(pilot, "? silent")

    drive(EdtApp(own, own.runs / "mine-s1"), step)


def test_a_job_is_followed_from_run_to_run_with_the_seeds_to_come(tmp_path):
    workspace = Workspace(tmp_path / "ws")
    job = workspace.jobs / "j"
    began = {"event": "job", "command": "train", "data": "pair", "seeds": [1, 2, 3]}
    events_of(job, [began, {"event": "run", "run": "one"}])
    beat(job, pid=os.getpid(), time=4e9, stage="augment", done=3, total=10)
    run(workspace, "one", {"epochs": 2, "of": 9, "end": "finished"})

    async def step(pilot: Pilot[None]) -> None:
        assert (await seen(pilot, "v finished  seed 1")).count("to come") == 2
        run(workspace, "two", {"epochs": 5, "of": 9})
        events_of(job, [began, *({"event": "run", "run": name} for name in ("one", "two"))])
        text = await seen(pilot, "epoch 5/9")
        assert "v finished  seed 1" in text and "seed 2" in text and text.count("to come") == 1
        await press(pilot, ["x", "n"])
        assert control(workspace, "two") == "stop-now"
        assert json.loads((job / "control.json").read_text()) == {"request": "stop-now"}
        with (job / "events.jsonl").open("a") as file:
            file.write('{"event": "ended", "outcome": "failed", "error": "no such thing"}\n')
        assert "no such thing" in await seen(pilot, "x failed")

    drive(EdtApp(workspace, job), step)


def test_the_money_of_an_llm_stage(tmp_path):
    workspace = Workspace(tmp_path / "ws")
    job = workspace.jobs / "j"
    events_of(job, [{"event": "job", "command": "augment", "data": "pair"}])
    told = {"calls": 50, "calls_left": 150, "hits": 30, "new": 18, "retries": 4, "failed": {"no JSON": 2}}
    money = {"spent_usd": 0.5, "limit_usd": 2.0, "last": {"user": "U7", "text": "\x1b[2J[red]Pan[/red]\nand lid"}}
    beat(job, pid=os.getpid(), time=4e9, stage="augment", done=50, total=200, **told, **money)

    async def step(pilot: Pilot[None]) -> None:
        text = await seen(pilot, "calls 50 of about 200")
        for words in ("h hits 30", "n new 18", "retries 4", "no JSON 2", "spent $0.5000", "limit $2.0000"):
            assert words in text
        assert "[red]Pan[/red]" in text and "and lid" in text and "\x1b" not in text

    drive(EdtApp(workspace, job), step)


def test_an_empty_workspace_says_what_to_do(tmp_path):
    async def step(pilot: Pilot[None]) -> None:
        for key in "123456":
            await press(pilot, [key, *"jkhlgGo", "enter", "space", "pagedown", "y", "escape"])
            assert "edt" in text_of(pilot.app)
        await press(pilot, ["2"])
        assert "edt train --data demo" in text_of(pilot.app)

    drive(EdtApp(Workspace(tmp_path / "nothing")), step)
    assert not (tmp_path / "nothing").exists()


def test_damaged_things_are_shown_as_damaged(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    (workspace.artefact("augmentation", "a1").path / "generated.parquet").write_bytes(b"no parquet")
    (workspace.runs / "pair-sasrec-s42-cccc" / "results" / "test-full-ranks.parquet").write_bytes(b"no parquet")
    (workspace.cache / "cache.db").write_bytes(b"no database" * 100)

    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2", "slash", *typed("damaged"), "enter", "enter"])
        assert isinstance(pilot.app.screen, RunScreen)
        await press(pilot, ["2", "3", "4", "5", "6", "1", "escape"])
        await press(pilot, ["5"])
        await seen(pilot, "is damaged")
        await press(pilot, ["6"])
        await seen(pilot, "file is not a database")
        await press(pilot, ["2", "slash", "ctrl+u", *typed("status=finished"), "enter"])
        await press(pilot, ["space", "space", "space", "c"])
        assert "are damaged" in await seen(pilot, "llm-edt-s44")

    drive(EdtApp(workspace), step)


def test_ascii_mode_is_ascii_on_every_screen(app_on):
    async def step(pilot: Pilot[None]) -> None:
        for key in ("1", "2", "question_mark", "escape", "4", "5", "enter", "escape", "6", "ctrl+p", "escape"):
            await press(pilot, [key])
            text = text_of(pilot.app)
            assert text.isascii(), sorted(set(text) - set(map(chr, range(128))))
            assert len(text.splitlines()[5]) <= 80

    drive(app_on(ascii_only=True), step)

    async def run_step(pilot: Pilot[None]) -> None:
        assert text_of(pilot.app).isascii()
        await press(pilot, ["1"])
        text = text_of(pilot.app)
        assert text.isascii() and "***" in text and "oo" in text and "* food" in text and "o kitchen" in text

    drive(app_on("pair-llm-edt-s42-aaaa", ascii_only=True), run_step)


def test_without_colour_nothing_is_lost(app_on):
    async def step(pilot: Pilot[None]) -> None:
        for key in ("2", "space", "4", "5"):
            await press(pilot, [key])
            for line in lines_of(pilot.app):
                for segment in line:
                    style = segment.style
                    assert style is None or all(c is None or c.is_default for c in (style.color, style.bgcolor))
        await press(pilot, ["2"])
        text = text_of(pilot.app)
        assert "\n>" in text and "*pair-" in text and "[2 Runs" in text
        for state in ("v finished", "o stopped", "? silent", "! damaged", "> training"):
            assert state in text

    drive(app_on(colour=False), step)


def test_no_color_is_read_from_the_environment_and_left_there(workspace, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    app = EdtApp(workspace)
    assert any(type(one).__name__ == "NoColor" for one in app.get_line_filters())
    assert os.environ["NO_COLOR"] == "1"


def test_help_names_every_key_that_the_screen_has(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["question_mark"])
        text = text_of(pilot.app)
        for words in ("Pause", "Stop", "Detach", "Zoom", "Log axis", "Phase before", "Quit"):
            assert words in text
        await press(pilot, ["escape", "z"])
        assert "log, following" not in text_of(pilot.app)

    drive(app_on(LIVE), step, (80, 40))


def test_any_size_is_survived(app_on):
    async def step(pilot: Pilot[None]) -> None:
        for size in ((160, 48), (20, 5), (1, 1), (300, 90), (80, 24)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
        assert "epoch 9/50" in text_of(pilot.app)

    drive(app_on(LIVE), step)

    async def home_step(pilot: Pilot[None]) -> None:
        for size in ((160, 48), (20, 5), (2, 2), (80, 24)):
            await pilot.resize_terminal(*size)
            await press(pilot, ["1", "2", "4", "5", "6", "2"])
        assert "pair-llm-edt" in text_of(pilot.app)

    drive(app_on(), home_step)


def test_clicks_move_the_cursor_and_open(app_on):
    async def step(pilot: Pilot[None]) -> None:
        rows = pilot.app.screen.query_one("#pane-runs Rows", Rows)
        await press(pilot, ["2"])
        await pilot.click(rows, offset=(5, 3))
        assert rows.cursor == 2
        await pilot.click(rows, offset=(5, 3))
        await settled(pilot)
        assert isinstance(pilot.app.screen, RunScreen)

    drive(app_on(), step)


def test_the_wheel_zooms_around_the_mouse_and_tells_the_value_there(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["1"])
        chart = pilot.app.screen.query_one("#ndcg", Chart)
        curve = chart.curves["food"]

        def wheel(kind: type[events.MouseEvent], x: int) -> None:
            at = chart.content_region.offset + Offset(x, 2)
            within = at - chart.region.offset
            chart.post_message(kind(chart, within.x, within.y, 0, 0, 0, False, False, False, *at))

        def value_told(x: float) -> str:
            told = number(next(high for point, _, high in curve if point == x))
            assert str(chart.border_subtitle).startswith(f"{x:g}: food {told}  "), chart.border_subtitle
            return told

        middle = 7 + chart._plot_width() // 2
        for _ in range(2):
            wheel(events.MouseScrollUp, middle)
            await pilot.pause()
        first, last = chart.window
        assert last - first == pytest.approx(curve.end / 4) and first < chart.cursor < last
        column = cell_of(chart.cursor, *chart._extent(), chart._plot_width())
        assert abs(column - (middle - 7)) <= chart._plot_width() / (last - first)
        value_told(chart.cursor)
        await pilot.click(chart, offset=(8 + 2, 3))
        assert chart.cursor == chart._extent()[0]
        value_told(chart.cursor)
        for _ in range(3):
            wheel(events.MouseScrollDown, middle)
            await pilot.pause()
        assert chart.window is None

    drive(app_on("pair-llm-edt-s42-aaaa"), step, (120, 36))


def test_a_followed_run_is_known_with_its_job(tmp_path):
    workspace = Workspace(tmp_path / "ws")
    folder = run(workspace, "one", {"epochs": 2, "of": 9})
    job = workspace.jobs / "j"
    events_of(job, [{"event": "job", "seeds": [1]}, {"event": "run", "run": "one"}])
    beat(job, pid=os.getpid(), time=4e9)
    followed = Followed(workspace, folder)
    assert followed.job is not None and followed.job.folder == job
    while followed.take(followed.read()):
        pass
    assert (followed.name, followed.status) == ("one", "training")


def test_screenshots_are_written_by_the_command(workspace, monkeypatch):
    monkeypatch.setattr("edt_cli.ui.screenshots.SHOTS", [("runs", ["2"])])
    monkeypatch.setattr("edt_cli.ui.screenshots.SIZES", {"80x24": (80, 24)})
    done = CliRunner().invoke(edt, ["ui", "--workspace", "ws", "--screenshots", "shots"])
    assert done.exit_code == 0, done.output
    assert "pair-sasrec" in Path("shots/runs-80x24.svg").read_text()
    assert "validation" in Path("shots/run-80x24.svg").read_text()
    assert "beside" in Path("shots/result-80x24.svg").read_text()


def test_off_a_terminal_the_app_says_what_to_use(workspace):
    done = CliRunner().invoke(edt, ["ui", "--workspace", "ws"])
    assert "needs a terminal" in str(done.exception)
    done = CliRunner().invoke(edt, ["ui", "--workspace", "ws", "--attach", "nowhere"])
    assert "needs a terminal" in str(done.exception)


def test_a_run_is_found_by_how_it_begins_by_its_path_or_not_at_all(workspace):
    found = find_followed(workspace, "pair-sasrec-s42")
    assert found.name == "pair-sasrec-s42-cccc"
    assert find_followed(workspace, str(found)) == found
    with pytest.raises(UserError, match="3 runs named 'pair-llm'"):
        find_followed(workspace, "pair-llm")
    with pytest.raises(UserError, match="no run and no job named 'x'"):
        find_followed(workspace, "x")


class Bytes:
    """Counts what the app sends to its terminal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        monkeypatch.setattr(HeadlessDriver, "write", self._count)

    def _count(self, data: str) -> None:
        self.sent += len(data.encode())


def test_what_does_not_change_sends_nothing(app_on, monkeypatch):
    """A finished run and the workspace, untouched while they are read again several times."""
    count = Bytes(monkeypatch)
    monkeypatch.setattr("edt_cli.ui.run_screen.POLL_S", 0.1)
    monkeypatch.setattr("edt_cli.ui.home.REREAD_S", 0.2)

    async def at_rest(pilot: Pilot[None]) -> None:
        for key in ("1", "0", "2"):
            await press(pilot, [key])
            await pilot.pause(0.5)
            count.sent = 0
            await pilot.pause(1.0)
            assert count.sent == 0, key

    for attach in ("pair-llm-edt-s42-aaaa", None):
        drive(app_on(attach), at_rest, (120, 36))
    assert count.sent == 0


def test_every_widget_of_every_section_can_be_reached_by_tab(app_on):
    async def step(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen
        for name in screen.names:
            screen.choose(name)
            await settled(pilot)
            wanted = {widget for widget in screen.pane(name).query("*") if widget.can_focus and widget.display}
            reached = set()
            for _ in range(len(wanted) + 2):
                reached.add(pilot.app.focused)
                await pilot.press("tab")
            assert wanted <= reached, (name, wanted - reached)
            if name == "LLM":
                assert {getattr(widget, "id", None) for widget in reached} >= {"models", "replies", "reply-box"}

    drive(app_on(), step, (120, 36))


def test_the_line_of_a_filter_is_obeyed_as_it_is_typed_and_esc_takes_it_back(app_on):
    async def step(pilot: Pilot[None]) -> None:
        await press(pilot, ["2", "slash", *"bbbb"])
        assert [row.name[-4:] for row in pilot.app.screen_stack[-2].pane("Runs").rows] == ["bbbb"]
        await press(pilot, ["escape"])
        assert "8 of 8" in text_of(pilot.app)
        await press(pilot, ["slash", *"bbbb", "enter", "escape"])
        assert "8 of 8" in text_of(pilot.app)
        await press(pilot, ["escape"])
        assert "[0 Home]" in text_of(pilot.app)
        await press(pilot, ["6", "slash", *"third", "enter"])
        text = text_of(pilot.app)
        assert "generate@1" in text and "U0002" in text and "U0001" not in text
        await press(pilot, ["tab", "tab"])
        assert "A user bought:" in text_of(pilot.app)

    drive(app_on(), step, (160, 48))


def test_ctrl_c_in_a_live_view_asks_and_twice_stops(own):
    class Process:
        def code(self) -> None:
            return None

    def view() -> EdtApp:
        return EdtApp(own, own.runs / "mine-s1", Process())

    async def asked(pilot: Pilot[None]) -> None:
        await press(pilot, ["ctrl+c"])
        assert "leave it running" in text_of(pilot.app) and control(own) is None
        await press(pilot, ["escape", "ctrl+c", "e"])
        assert control(own) == "stop-after-epoch"
        await press(pilot, ["ctrl+c", "ctrl+c"])
        assert control(own) == "stop-now" and not pilot.app._exit
        await pilot.press("ctrl+c", "l")
        await pilot.pause()
        assert pilot.app._exit

    drive(view(), asked)


def test_the_theme_is_kept_from_one_session_to_the_next(workspace):
    themes = []

    async def step(pilot: Pilot[None]) -> None:
        themes.append(pilot.app.theme)
        await press(pilot, ["t"])

    for _ in range(2):
        drive(EdtApp(workspace, ascii_only=False, colour=True), step)
    assert themes == ["edt-dark", "edt-light"]
