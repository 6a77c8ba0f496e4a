"""SIGTERM and SIGHUP end a command as Ctrl-C does: all that cleans up after Ctrl-C cleans up after them."""

from __future__ import annotations

import signal
from types import FrameType


class Ended(KeyboardInterrupt):
    """A signal that ends the process."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def end_like_ctrl_c() -> None:
    """Raise `Ended` on a signal by which a scheduler, a container or a closed terminal ends a process.

    One that is ignored, as under `nohup`, stays so.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def exit_status(interrupt: BaseException) -> int:
    """Return the exit status that a shell gives to a process that ended in this way."""
    return 128 + (interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended(number)
