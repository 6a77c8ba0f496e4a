"""Tables as one HTML file: what a browser shows of it, and what labels cannot do to it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_figure import bars

from edt_cli.reporting.html import Drawing, page
from edt_cli.reporting.paper_tables import TABLES
from edt_cli.reporting.report import report_text
from edt_cli.reporting.table import Column, Measure, Row, Table, mark_best

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "link", "br"}
CLICK = "<script>for (const press of {presses}) document.querySelectorAll('button')[press].click()</script>"


class Parsed(HTMLParser):
    """Tags that are balanced, and the text of the cells of each row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def table(*labels: str) -> Table:
    values = [0.30004, 0.1, 0.30001, 0.2]
    rows = [Row(label, (Measure(value, 0.01, 3), None)) for label, value in zip(labels, values, strict=True)]
    gain = Row("Improv. (%)", (Measure(3.0, digits=2), None), compared=False)
    return mark_best(Table("Results", (Column("N@10", "food", ranked=True), Column("Note")), (*rows, gain)))


def test_every_cell_of_every_table_of_the_paper_is_there():
    for number, printed in TABLES.items():
        rows = Parsed(page([printed], "paper")).rows[1 + printed.column_groups :]
        shown = {tuple(row[-len(printed.columns) :]) for row in rows}
        assert shown == {tuple("" if cell is None else str(cell) for cell in row.cells) for row in printed.rows}, (
            number
        )


def test_labels_are_text_and_the_page_loads_nothing():
    hostile = ("</td><script>alert(1)</script>", "a & b", '"onclick="x', "\x1b]0;x\x07{{ 7 * 7 }}")
    html = page([table(*hostile)], "<title>", [Drawing("Figure <1>", "<svg><circle r='1'/></svg>")])
    assert html.count("<script>") == 1 and "alert(1)</script>" not in html
    assert "\x1b" not in html and "{{ 7 * 7 }}" in html and "<svg><circle" in html
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", html)
    assert [row[0] for row in Parsed(html).rows[2:6]][1:3] == ["a & b", '"onclick="x']


def in_browser(html: str, folder: Path, presses: list[int]) -> list[list[str]]:
    path = folder / "page.html"
    path.write_text(html.replace("</body>", CLICK.format(presses=presses) + "</body>"), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", path.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return Parsed(shown).rows


LOOK = """<script>
const [svg, text] = ["figure svg", "figure svg text"].map(part => document.querySelector(part));
const ink = getComputedStyle(document.body).color;
document.title = [svg.getBoundingClientRect().width > 300, getComputedStyle(text).fill === ink, ink].join(" ");
</script>"""


@pytest.mark.e2e
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_draws_a_figure_in_the_colours_of_a_dark_page(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "page.html"
    path.write_text(report_text([], [bars()], "html").replace("</body>", f"{LOOK}</body>"), "utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--blink-settings=preferredColorScheme=0",
        "--dump-dom",
    ]
    shown = subprocess.run(
        [BROWSER, *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "<title>true true rgb(230, 230, 230)</title>" in shown.stdout


@pytest.mark.e2e
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_sorts_by_what_is_behind_the_cells_and_leaves_the_improvement_last(tmp_path):
    html = page([table("c", "a", "b", "d")], "Results")
    labels = [[row[0] for row in in_browser(html, tmp_path, presses)[2:]] for presses in ([], [1], [1, 1], [0, 0])]
    assert labels == [
        ["c", "a", "b", "d", "Improv. (%)"],
        ["c", "b", "d", "a", "Improv. (%)"],
        ["a", "d", "b", "c", "Improv. (%)"],
        ["a", "b", "c", "d", "Improv. (%)"],
    ]
