"""Curves in bounded memory: however long a run is, a curve keeps at most LIMIT buckets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

LIMIT = 2048


class Curve:
    """Points with growing x, kept in buckets.

    A bucket is (x, low, high) of `stride` neighbouring points. A point without a finite value is a gap (NaN).
    """

    def __init__(self, points: Iterable[tuple[float, float | None]] = ()) -> None:
        self.stride = 1
        self.last: float | None = None
        self._x: list[float] = []
        self._low: list[float] = []
        self._high: list[float] = []
        self._in_last = 0
        for x, y in points:
            self.add(x, y)

    def __len__(self) -> int:
        return len(self._x)

    def __iter__(self) -> Iterator[tuple[float, float, float]]:
        return zip(self._x, self._low, self._high, strict=True)

    @property
    def first(self) -> float:
        """The x of the first bucket."""
        return self._x[0]

    @property
    def end(self) -> float:
        """The x of the last bucket."""
        return self._x[-1]

    def add(self, x: float, y: float | None) -> None:
        """Add a point; a point before the last bucket is ignored."""
        value = math.nan if y is None or not math.isfinite(y) else y
        if self._x and x < self._x[-1]:
            return  # an epoch reported again after a resume: the first report stands
        self.last = None if math.isnan(value) else value
        if self._in_last and self._in_last < self.stride:
            self._low[-1], self._high[-1] = _joined(self._low[-1], self._high[-1], value, value)
            self._in_last += 1
            return
        self._x.append(x)
        self._low.append(value)
        self._high.append(value)
        self._in_last = 1
        if len(self._x) > LIMIT:
            self._halve()

    def within(self, first: float, last: float) -> Curve:
        """Return the part of the curve from `first` to `last`, in the same buckets."""
        part = Curve()
        part.stride, part.last = self.stride, self.last
        kept = [point for point in self if first <= point[0] <= last]
        part._x, part._low, part._high = ([point[n] for point in kept] for n in range(3))
        return part

    def _halve(self) -> None:
        """Join neighbouring buckets in pairs, which doubles `stride`."""
        pairs = [
            _joined(self._low[i], self._high[i], self._low[i + 1], self._high[i + 1])
            for i in range(0, len(self._x) - 1, 2)
        ]
        odd = len(self._x) % 2
        self._low = [low for low, _ in pairs] + self._low[-1:] * odd
        self._high = [high for _, high in pairs] + self._high[-1:] * odd
        self._x = self._x[::2]
        self._in_last = self._in_last if odd else self.stride + self._in_last
        self.stride *= 2


def _joined(low: float, high: float, other_low: float, other_high: float) -> tuple[float, float]:
    """Return the span of two buckets; a gap takes the span of the other bucket."""
    if math.isnan(low):
        return other_low, other_high
    if math.isnan(other_low):
        return low, high
    return min(low, other_low), max(high, other_high)
