"""A pseudo-terminal with a process in it, and the screen as a terminal would show it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

MODES = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """`edt ARGUMENTS` in a session of its own, as a terminal emulator starts a shell."""

    def __init__(self, place: Path, *arguments: str, size: tuple[int, int] = (80, 24), **environment: str) -> None:
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        self.code: int | None = None
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            own = {"EDT_WORKSPACE": str(place), "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment}
            # readline, which pytest imports, sets a size for whoever it starts, pytest's own workers included.
            shell = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            os.execve(sys.executable, [sys.executable, "-m", "edt_cli", *arguments], {**shell, **own})
        self.cooked = termios.tcgetattr(self.master)
        self.resize(*size)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)
        if self.code is None:
            os.kill(self.pid, signal.SIGWINCH)

    def pump(self, seconds: float) -> None:
        """Read what comes within `seconds`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.master], [], [], left)[0]:
                return
            try:
                read = os.read(self.master, 65536)
            except OSError:
                return
            if not read:
                return
            self.output += read
            self._stream.feed(read)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def wait(self, holds: Callable[[str], bool] | str, seconds: float = 200.0) -> str:
        """Until the screen shows it."""
        test = (lambda text: holds in text) if isinstance(holds, str) else holds
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.pump(0.05)
            if test(self.text):
                return self.text
        raise AssertionError(f"{holds!r} never came:\n{self.text}")

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self, seconds: float = 200.0) -> int:
        """Wait for the process; its exit status, or minus the signal."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.pump(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pump(0.1)
                self.code = os.waitstatus_to_exitcode(status)
                return self.code
        raise AssertionError(f"the process does not end:\n{self.text}")

    def left_usable(self) -> bool:
        """Back on the first screen, the mouse and bracketed paste off, the cursor shown, the line discipline as it
        was."""
        begun, over = (self.output.rfind(mode) for mode in MODES)
        off = all(
            self.output.rfind(f"\x1b[?{mode}l".encode()) > self.output.rfind(f"\x1b[?{mode}h".encode())
            for mode in (1000, 1003, 2004)
        )
        cursor = self.output.rfind(b"\x1b[?25h") > self.output.rfind(b"\x1b[?25l")
        local = termios.tcgetattr(self.master)[3]
        echoes = local & termios.ECHO and local & termios.ICANON and local & termios.ISIG
        return over > begun >= 0 and off and cursor and bool(echoes)

    def close(self) -> None:
        """Hang up, as a lost connection does."""
        os.close(self.master)
