"""What the sections of the workspace share: a list, facts below or beside it, reading off the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from textual.containers import Container

T = TypeVar("T")


class Pane(Container):
    """The list above and the facts below; side by side where there is room."""

    DEFAULT_CSS = """
    Pane { height: 1fr; layout: vertical; }
    Pane Rows { height: 1fr; width: 1fr; }
    Pane .facts { height: 1fr; width: 1fr; overflow-y: auto; }
    """

    def reads(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """`work` in another thread, `then` with what it found in this one; a later call takes the earlier's place.
        An error is said in one line."""

        async def both() -> None:
            try:
                found = await asyncio.to_thread(work)
            except Exception as error:  # a damaged file must not end the app
                # Ours say what a user can do; of others the class says most.
                kind = "" if type(error).__module__.startswith("edt_") else f"{type(error).__name__}: "
                if self.is_attached:
                    self.failed(f"{kind}{error}")
                return
            if self.is_attached:
                then(found)

        self.run_worker(both(), exclusive=True, group=type(self).__name__)

    def failed(self, message: str) -> None:
        self.notify(message, severity="error", markup=False, timeout=8)
