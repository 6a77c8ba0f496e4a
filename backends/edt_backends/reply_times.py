"""Time limit of a call, learned from the times that replies took."""

from __future__ import annotations

from collections import deque

ENOUGH, KEPT = 20, 400
"""Fewest replies to learn from, and most of the newest ones."""
SHARE, TIMES, LEAST_SECONDS = 0.95, 10.0, 20.0


class ReplyTimes:
    """Times of the newest calls, among them those that were given up."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=KEPT)

    def add(self, seconds: float) -> None:
        """Add the time of a reply, or of a call that was given up."""
        self._seconds.append(seconds)

    def limit(self, most: float) -> float:
        """Return the seconds to wait for a reply: ten times the 95th percentile, at least 20, at most `most`."""
        if len(self._seconds) < ENOUGH:
            return most
        ordered = sorted(self._seconds)
        return min(most, max(LEAST_SECONDS, TIMES * ordered[int(SHARE * (len(ordered) - 1))]))
