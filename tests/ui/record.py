"""Record a new user's first minute as an asciinema cast.

python tests/ui/record.py examples/screens/first-minute.cast.gz

The app is driven in a terminal of its own and starts a real run on the demo pair. Waiting is cut to a second, so
that the cast is the same on a slow machine.
"""

from __future__ import annotations

import codecs
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

from terminals import Terminal

SIZE = (100, 30)
LONGEST_S = 1.0
"""Longest time between two frames of the cast."""
READ_S = 1.2
"""Time to read a screen before the next key."""
TYPED_S = 0.15
"""Time between two keys."""
TAB, ENTER, ESC, CTRL_P, CTRL_S = "\t", "\r", "\x1b", "\x10", "\x13"
WALK = [
    ("nothing is at work", "n"),
    ("start a run", TAB + ENTER),
    ("popularity", "item-knn"),
    ("item-knn", ENTER),
    ("will run", CTRL_S),
    ("v finished", "2"),
    ("hr@10", ESC),
    ("results on demo", CTRL_P),
    ("Search", "users demo"),
    ("its users", ENTER + ENTER),
    ("of 3,000", ENTER),
    ("oldest to newest", "4"),
    ("held out", ESC + "2" + "?"),
    ("in this section", ESC),
    ("By system", "q"),
]
"""What the screen shows, and the keys that are then pressed."""


class Recorded(Terminal):
    """A terminal that notes when it was written to."""

    def __init__(self, place: Path, *arguments: str, **environment: str) -> None:
        self.frames: list[tuple[float, str]] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._seen, self._last, self._clock = 0, time.monotonic(), 0.0
        super().__init__(place, *arguments, size=SIZE, **environment)

    def pump(self, seconds: float) -> None:
        """Read what comes, and note it as a frame."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            super().pump(0.04)
            if len(self.output) > self._seen:
                now = time.monotonic()
                self._clock += min(LONGEST_S, now - self._last)
                self._last = now
                text = self._decoder.decode(self.output[self._seen :])
                self.frames.append((round(self._clock, 3), text))
                self._seen = len(self.output)


def main(path: Path) -> None:
    """Walk through the app, and write the cast."""
    with tempfile.TemporaryDirectory() as folder:
        terminal = Recorded(Path(folder) / "edt-workspace", "ui", XDG_CONFIG_HOME=folder, COLORTERM="")
        for words, keys in WALK:
            terminal.wait(words)
            terminal.pump(READ_S)
            for key in keys:
                terminal.press(key)
                terminal.pump(TYPED_S)
        terminal.end()
    head = {"version": 2, "width": SIZE[0], "height": SIZE[1], "title": "edt: the first minute"}
    lines = [
        json.dumps(head),
        *(json.dumps([moment, "o", text], ensure_ascii=False) for moment, text in terminal.frames),
    ]
    text = "\n".join(lines) + "\n"
    # Without a time, so that the same frames are the same file.
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{path}: {terminal.frames[-1][0]:.0f} s, {path.stat().st_size / 1e3:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
