"""Colours and ticks that all drawings of figures share."""

from __future__ import annotations

import math
from collections.abc import Sequence

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6bb1", "#7f7f7f")
"""Colours that colour-blind readers can tell apart (Okabe and Ito), readable on light and on dark ground."""
STEPS = (1, 2, 5)


def log_ticks(values: Sequence[float], most: int = 5) -> dict[float, str]:
    """Return round ticks of a logarithmic axis around positive `values`, with labels such as 200k."""
    low, high = min(values), max(values)
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [float(step * 10**exponent) for exponent in exponents for step in STEPS]
    below = [tick for tick in ticks if tick <= low][-1:]
    inside = [tick for tick in ticks if low < tick < high]
    above = [tick for tick in ticks if tick >= high and tick not in below][:1]
    while len(inside) > max(1, most - 2):
        inside = inside[1::2]
    return {tick: short_number(tick) for tick in (*below, *inside, *above)}


def short_number(value: float) -> str:
    """Return a number such as 950, 200k or 1.5M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def linear_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most `most` + 2 round ticks from the one at or below `low` to the one at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    raw = span / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * unit for factor in (*STEPS, 10) if factor * unit >= raw * 0.999), 10 * unit)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
