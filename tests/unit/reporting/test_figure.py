"""Figures in every form: what is drawn, what stands in the table of their numbers, and what labels cannot do."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from edt_cli.config import UserError
from edt_cli.reporting.drawn_figure import draw, inline_svg
from edt_cli.reporting.figure import Axis, Figure, Panel, Series
from edt_cli.reporting.figure_data import as_table
from edt_cli.reporting.palette import linear_ticks, log_ticks
from edt_cli.reporting.report import report_text
from edt_cli.reporting.table import Column, Measure, Row, Table
from edt_cli.reporting.terminal_figure import TerminalFigure

GROUPS = ("[0,5)", "[5,10)", "[20,inf)")
HOSTILE = "[red]x$_1$[/] <b>&\x1b]0;t\x07%#"


def bars(label: str = "LLM-EDT") -> Figure:
    def panel(title: str, shift: float) -> Panel:
        ours = Series(label, GROUPS, (Measure(0.5 + shift, 0.01, 3), None, Measure(0.25, flag="†")))
        return Panel(title, (Series("LLMCDSR", GROUPS, tuple(map(Measure, (0.1, 0.2, 0.0)))), ours), (7, 8, 9))

    panels = (panel("food", 0.0), panel("kitchen", 0.1))
    return Figure("H@10 by length", "bars", Axis("Interactions"), Axis("H@10"), panels, ("Seed 42.",), number=4)


def lines() -> Figure:
    rising = Series("LLM-EDT", (0.1, 0.5, 1.0), tuple(map(Measure, (0.1, 0.3, 0.2))))
    return Figure("H@10 by α", "lines", Axis("α"), Axis("H@10"), (Panel("food", (rising,)),))


def named_points() -> Figure:
    systems = (("SASRec", 2e5, 0.5), ("LLM-EDT", 3e5, 0.75))
    series = tuple(Series(name, (count,), (Measure(time, digits=3),)) for name, count, time in systems)
    axes = Axis("Parameters", log=True), Axis("Time a user", "ms")
    return Figure("Parameters and time", "points", *axes, (Panel("shop", series),), number=6)


def many_points() -> Figure:
    cloud = tuple(float(number % 9) for number in range(90)), tuple(Measure(number % 10) for number in range(90))
    plane = Axis("", ticks=False)
    summary = Table("", (Column("Items"),), (Row("food", (Measure(90, digits=0),)),), ("", "Domain"))
    panels = tuple(Panel(title, (Series("food", *cloud),)) for title in ("before", "after"))
    return Figure("Items", "points", plane, plane, panels, number=3, summary=summary)


FIGURES = {"bars": bars, "lines": lines, "named": named_points, "many": many_points}


def test_the_table_of_bars_has_all_numbers_and_the_users_behind_them():
    table = as_table(bars())
    assert [(column.group, column.name) for column in table.columns] == [
        (domain, group) for domain in ("food", "kitchen") for group in GROUPS
    ]
    assert [[str(cell or "") for cell in row.cells] for row in table.rows] == [
        ["7", "8", "9"] * 2,
        ["0.1000", "0.2000", "0.0000"] * 2,
        ["0.5000±.0100", "", "0.2500†", "0.6000±.0100", "", "0.2500†"],
    ]
    assert [row.label for row in table.rows] == ["Users", "LLMCDSR", "LLM-EDT"]


def test_points_have_a_row_each_or_a_summary():
    assert [[str(cell) for cell in row.cells] for row in as_table(named_points()).rows] == [
        ["200,000", "0.500"],
        ["300,000", "0.750"],
    ]
    assert as_table(many_points()).rows[0].label == "food"


def test_csv_and_json_have_every_point():
    heads, *points = csv.reader(io.StringIO(report_text([], [bars()], "csv")))
    assert heads[3:] == ["Interactions", "H@10", "deviation", "seeds", "flag", "users"]
    assert len(points) == 12 and points[3][1:] == ["food", "LLM-EDT", "[0,5)", "0.5", "0.01", "3", "", "7"]
    assert points[4][4:8] == [""] * 4 and points[5][7] == "†"
    (document,) = json.loads(report_text([], [many_points()], "json"))["figures"]
    assert document["number"] == 3 and len(document["panels"][1]["series"][0]["y"]) == 90
    assert document["summary"]["rows"][0]["cells"][0]["mean"] == 90


def test_bars_stand_on_the_terminal_in_whole_cells(printed):
    shown = printed(TerminalFigure(bars()), width=100)
    assert shown[0] == "Figure 4. H@10 by length"
    assert shown[2].split() == ["food", "|", "H@10", "kitchen", "|", "H@10"]
    bottom = next(line for line in shown if line.startswith("0.0┤"))
    canvas = bottom.split("│")[0].removeprefix("0.0┤")
    runs = re.findall(r"█+|▒+", canvas)
    assert len({len(run) for run in runs}) == 1 and [run[0] for run in runs] == ["█", "▒", "█", "▒"]
    assert "[0,5)" in "".join(shown) and "Seed 42." in shown


def test_lines_rise_and_fall_where_the_numbers_do(printed):
    shown = printed(TerminalFigure(lines()), width=60)
    rows = {
        match: number for number, line in enumerate(shown) for match in [m.start() for m in re.finditer("●", line)]
    }
    left, middle, right = (rows[place] for place in sorted(rows)[-3:])
    assert middle < right < left
    assert any(re.fullmatch(r"\s+0\.1\s+0\.5\s+1", line) for line in shown)


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("width", [20, 40, 78, 130])
def test_the_terminal_holds_any_figure_without_colours_and_in_ascii(printed, kind, width):
    figure = FIGURES[kind]()
    plain = printed(TerminalFigure(figure), width=width)
    ascii_lines = printed(TerminalFigure(figure), width=width, encoding="ascii")
    assert "\x1b" not in "".join(plain) and "?" not in "".join(ascii_lines)
    if width >= 40:
        assert max(map(len, [*plain, *ascii_lines])) <= width


def test_colour_is_there_on_a_terminal_only(printed):
    coloured = "\n".join(printed(TerminalFigure(bars()), force_terminal=True, color_system="truecolor"))
    assert "\x1b[38;2;0;114;178m█" in coloured, "the series"
    assert "48;" not in coloured, "the ground is the terminal's"


def test_names_of_catalogues_are_data_on_the_terminal(printed):
    shown = "\n".join(printed(TerminalFigure(bars(HOSTILE)), width=120))
    assert "[red]x$_1$[/] <b>&]0;t%#" in shown and "\x1b" not in shown and "\x07" not in shown


@pytest.mark.parametrize("kind", FIGURES)
def test_matplotlib_draws_every_kind(kind):
    pytest.importorskip("matplotlib")
    figure = FIGURES[kind]()
    svg = draw([figure], "svg")
    texts = [text.strip() for text in ElementTree.fromstring(svg).itertext()]
    named = ["food"] if kind == "many" else [figure.x.heading, "LLM-EDT"]
    assert {figure.heading, *named} <= set(texts)


def test_png_and_pdf_are_what_they_are_called():
    pytest.importorskip("matplotlib")
    pdf = draw([lines(), lines()], "pdf")
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page ") == 2
    assert draw([lines()], "png").startswith(b"\x89PNG")


def test_the_same_figure_is_the_same_file():
    pytest.importorskip("matplotlib")
    for form in ("svg", "pdf"):
        assert draw([lines()], form) == draw([lines()], form)


def test_an_inline_svg_follows_the_page_and_shares_no_id_with_another():
    pytest.importorskip("matplotlib")
    one, other = inline_svg(bars(HOSTILE)), inline_svg(named_points())
    assert "currentColor" in one and "var(--line)" in one and "#1b1b1b" not in one
    assert "<b>" not in one and "&lt;b&gt;&amp;]0;t%#" in one, "a label is text, and no formula"
    assert 'role="img" aria-label="Figure 4. H@10 by length"' in one
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', one))
    assert used and used <= ids[0] and not ids[0] & ids[1]
    ElementTree.fromstring(one)


def test_a_page_has_the_figure_with_its_numbers_to_unfold_and_loads_nothing():
    pytest.importorskip("matplotlib")
    html = report_text([], [replace(lines(), notes=("Seed 42.",))], "html")
    assert html.startswith("<!doctype html>") and html.count("<svg") == 1 and html.count("<details>") == 1
    assert "0.3000" in html and "Seed 42." in html
    assert not re.search(r"\ssrc\s*=|url\([^#]|@import", html)
    assert set(re.findall(r'href="([^"]*)"', html)) == set(re.findall(r'xlink:href="(#[^"]*)"', html))


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=re.escape("pip install 'edt-cli[figures]'")):
        report_text([], [bars()], "html")


def test_a_figure_of_nothing_is_drawn_all_the_same(printed):
    pytest.importorskip("matplotlib")
    empty = Panel("food", (Series("LLM-EDT", (0.1, 0.3), (None, None)),))
    figure = replace(lines(), panels=(empty,))
    assert any("LLM-EDT" in line for line in printed(TerminalFigure(figure)))
    assert draw([figure], "png").startswith(b"\x89PNG")


def test_ticks_are_round_and_around_what_there_is():
    assert linear_ticks(0.0, 0.23) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert linear_ticks(0.391, 0.409) == pytest.approx([0.39, 0.395, 0.4, 0.405, 0.41])
    assert linear_ticks(0.0, 0.0)[0] == 0 and linear_ticks(3.0, 3.0)[0] <= 3 <= linear_ticks(3.0, 3.0)[-1]
    assert list(log_ticks([250_000, 4_000_000]).values()) == ["200k", "500k", "1M", "2M", "5M"]
    ticks = list(log_ticks([250_000, 4_000_000_000]))
    assert ticks[0] <= 250_000 and ticks[-1] >= 4e9 and len(ticks) <= 6
    assert len(log_ticks([1000.0])) >= 1
