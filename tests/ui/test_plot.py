"""Charts: every curve has its name, every peak is drawn, and a level curve looks level. Pure functions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from textual.color import Color

from edt_cli.ui.chart import Chart
from edt_cli.ui.curves import Curve
from edt_cli.ui.plot import LETTERS, cell_of, draw, name_rows, nearest, round_ticks, x_labels
from edt_cli.ui.theme import DARK, LIGHT
from edt_cli.ui.tones import TONES


def curves_of(values: list[list[float]]) -> list[Curve]:
    return [Curve(enumerate(row)) for row in values]


def letters(picture, row: int) -> set[str]:
    return {glyph for glyph, _ in picture.rows[row]} - {" "}


def test_names_stand_in_the_order_of_the_ends_of_their_curves():
    """In 500 random charts; where curves end apart, each name stands beside its own letter."""
    rng = np.random.default_rng(7)
    for _ in range(500):
        count, height = int(rng.integers(1, 6)), int(rng.integers(5, 16))
        walks = rng.normal(size=(count, 30)).cumsum(1)
        picture = draw(curves_of(walks.tolist()), 40, height, ascii_only=True)
        assert picture is not None
        named = name_rows(picture)
        assert sorted(named.values()) == list(range(count)) and max(named) < height
        by_line = [walks[series][-1] for _, series in sorted(named.items())]
        gap = 2 * (walks.max() - walks.min()) / height
        assert all(above > below - gap for above, below in pairwise(by_line))
        ends = sorted(picture.axis.row(end) for end in picture.ends.values())
        if all(below > above for above, below in pairwise(ends)):
            for line, series in named.items():
                assert LETTERS[series] in letters(picture, line)


@pytest.mark.parametrize("dashed", [False, True])
def test_a_peak_of_one_point_is_drawn_wherever_it_is(dashed):
    for at in range(1, 59):
        values = [[0.0] * 60 for _ in range(4)]
        values[3][at] = 1.0
        picture = draw(curves_of(values), 30, 8, dashed=dashed)
        assert picture is not None
        assert any(owner == 3 for _, owner in picture.rows[0]), at


def test_strokes_differ_only_without_colours():
    level = curves_of([[0.0] * 60, [1.0] * 60])
    for dashed in (False, True):
        picture = draw(level, 30, 8, dashed=dashed)
        assert picture is not None
        drawn = ["".join(glyph for glyph, _ in row) for row in picture.rows if any(o == 1 for _, o in row)]
        assert ("\u2800" in drawn[0] or " " in drawn[0]) is dashed


def test_a_rise_in_the_fourth_digit_is_no_slope_and_ticks_differ():
    picture = draw(curves_of([[0.1291, 0.1291, 0.1292]]), 40, 12)
    assert picture is not None
    used = [y for y, row in enumerate(picture.rows) if any(owner is not None for _, owner in row)]
    assert len(used) <= 2
    for height in range(3, 50):
        for low, high in ((0.1291, 0.1292), (0.0, 1.0), (0.39, 8.5), (-3.0, 5.0), (1e-7, 3e-7), (99.0, 100.0)):
            picture = draw(curves_of([[low, high]]), 40, height)
            assert picture is not None
            labels = list(picture.axis.labels().values())
            assert len(set(labels)) == len(labels) and all(len(label) <= 6 for label in labels), labels


def test_ticks_are_round_and_x_labels_fit():
    assert round_ticks(0.03, 0.97, 5)[0] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    for width in range(3, 90):
        for last in (1, 9, 12, 300, 20_000):
            line = x_labels(0, last, width)
            numbers = [int(word) for word in line.split()]
            assert len(line) == width and numbers == sorted(set(numbers)) and numbers[0] == 0
            assert numbers[-1] <= last


def test_values_under_the_cursor_and_a_log_axis():
    curves = {"a": Curve([(0, 1.0), (1, 2.0), (2, math.nan)]), "b": Curve([(0, 5.0), (1, 7.0)])}
    assert nearest(curves, 1) == {"a": 2.0, "b": 7.0}
    assert nearest(curves, 2) == {"b": 7.0}
    picture = draw([Curve([(1, 0.001), (2, 8.0), (3, 0.0)])], 30, 10, log=True)
    assert picture is not None
    assert list(picture.axis.labels().values()) == [".0010", ".0100", ".1000", "1.000", "10.00"]


def test_every_colour_can_be_read_on_its_background():
    """WCAG's contrast: at least 4.5, and in the cursor's row 4."""

    def luminance(colour: str) -> float:
        parts = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in Color.parse(colour).normalized
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for theme in (DARK, LIGHT):
        for behind, least in ((str(theme.background), 4.5), (theme.variables["cursor-row"], 4.0)):
            for tone in TONES:
                pair = sorted((luminance(theme.variables[f"tone-{tone}"]), luminance(behind)))
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least, (theme.name, tone, behind)


def test_a_zoom_is_around_the_cursor_and_moves_along_with_it():
    chart = Chart("loss")
    chart.curves = {"a": Curve([(x, x / 100) for x in range(101)]), "b": Curve([(x, 1.0) for x in range(50)])}
    chart.cursor = 40
    chart.action_zoom_x(0.5)
    assert chart.window == (15, 65) and "15 to 65" not in chart.border_subtitle
    assert [curve.first for curve in chart._visible().values()] == [15, 15]
    for _ in range(3):
        chart.action_zoom_x(0.5)
    assert chart.window == (36.875, 43.125)
    for _ in range(4):
        chart.action_cursor(1)
    assert chart.cursor == 44 and chart.window[0] < 44 < chart.window[1]
    for _ in range(9):
        chart.action_zoom_x(0.5)
    assert chart.window[1] - chart.window[0] == 2
    for _ in range(9):
        chart.action_zoom_x(2)
    assert chart.window is None
    chart.cursor = None
    chart.action_zoom_x(0.5)
    assert chart.window == (50, 100) and chart.border_subtitle == ", 50 to 100"


@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_cursor_stands_on_the_point_that_it_names_however_it_is_zoomed(ascii_only):
    rng = np.random.default_rng(11)
    for _ in range(300):
        width, count = int(rng.integers(5, 120)), int(rng.integers(3, 400))
        begin = int(rng.integers(0, count - 2))
        end = int(rng.integers(begin + 2, count + 1))
        at = int(rng.integers(begin, end))
        curve = Curve([(x, float(x == at)) for x in range(count)]).within(begin, end - 1)
        picture = draw([curve], width, 6, ascii_only=ascii_only)
        assert picture is not None
        column = cell_of(at, curve.first, curve.end, width, ascii_only=ascii_only)
        assert picture.rows[0][column][1] == 0, (width, begin, end, at)
