from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from edt_cli.reporting.bar_chart import bar_chart

LABELS = ["0%-10%", "40%-50%", "90%-100%"]
VALUES = [2, 0, 6]


def test_value_and_share_stand_behind_each_bar(printed):
    assert printed(bar_chart(LABELS, VALUES, "r"), width=40) == [
        "r",
        "0%-10%    ██████▋               2  25.0%",
        "40%-50%                         0   0.0%",
        "90%-100%  ████████████████████  6  75.0%",
    ]


@pytest.mark.parametrize("how", [{"encoding": "ascii"}, {}])
def test_ascii_alone_by_encoding_or_by_wish(printed, how):
    chart = bar_chart([*LABELS, "größe"], [*VALUES, 1500.5], "Verteilung ü", ascii=not how)
    lines = printed(chart, width=44, **how)
    assert "\n".join(lines).isascii()
    assert lines[-1] == "gr??e     ##################  1,500.5  99.5%"
    assert lines[1].split() == ["0%-10%", "#", "2", "0.1%"]


def test_nothing_is_only_colour(printed):
    chart = bar_chart(LABELS, VALUES, "r")
    coloured = printed(chart, force_terminal=True, color_system="truecolor")
    codes = {code for line in coloured for code in re.findall(r"\x1b\[([\d;]*)m", line)}
    assert codes <= {"0", "1"}
    without = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in coloured]
    assert without == printed(chart)
    assert without == [re.sub(r"\x1b\[[\d;]*m", "", line) for line in printed(chart, no_color=True)]


def test_a_small_value_is_seen_and_zero_is_not(printed):
    lines = printed(bar_chart(["few", "none", "most"], [1, 0, 100_000], "x"))
    assert "▏" in lines[1]
    assert lines[2].split() == ["none", "0", "0.0%"]
    assert lines[3].split()[2] == "100,000"


@pytest.mark.parametrize("width", [20, 33, 80, 120])
def test_bars_are_in_proportion_and_fit(printed, width):
    lines = printed(bar_chart(["a", "b"], [1, 2], "x", width=width), width=200)
    assert all(cell_len(line) <= width for line in lines)
    short, long = (line.count("█") + ("▌" in line) / 2 for line in lines[1:])
    assert long == 2 * short > 0


def test_hostile_and_wide_labels(printed):
    labels = ["[red]\x1b[2J\nrm -rf\u202e", "日本語の商品" * 20]
    lines = printed(bar_chart(labels, [1, 1], "[bold]t[/bold]\x07"), width=60)
    assert lines[0] == "[bold]t[/bold]"
    assert lines[1].startswith("[red][2J rm -rf ")
    assert lines[2].startswith("日本語") and "…" in lines[2]
    assert len(lines) == 3
    assert {cell_len(line) for line in lines[1:]} == {60}


def test_nothing_to_show_and_all_zero(printed):
    assert printed(bar_chart([], [], "empty")) == ["empty", "nothing to show"]
    assert [line.split() for line in printed(bar_chart(["a"], [0], "zero"))] == [["zero"], ["a", "0"]]


@pytest.mark.parametrize("values", [[-1.0], [float("nan")], [float("inf")], [1.0, 2.0]])
def test_refuses_what_is_no_bar(values):
    with pytest.raises(ValueError, match=r"bar|labels"):
        bar_chart(["a"], values, "x")
