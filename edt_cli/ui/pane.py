"""Base of the workspace's sections: a list with facts below or beside it, and reading in another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from textual.containers import Container

T = TypeVar("T")


class Pane(Container):
    """Section with a list above and facts below, or side by side if there is room."""

    DEFAULT_CSS = """
    Pane { height: 1fr; layout: vertical; }
    Pane Rows { height: 1fr; width: 1fr; }
    Pane .facts { height: 1fr; width: 1fr; overflow-y: auto; }
    """

    def reads(self, work: Callable[[], T], then: Callable[[T], None], *, after: float = 0.0) -> None:
        """Call `work` in another thread, then `then` with its result in this one.

        A later call replaces an earlier one. An error is shown in one line.

        Args:
            work: What reads.
            then: What shows it.
            after: Seconds to wait before, in which a later call may come.
        """

        async def both() -> None:
            await asyncio.sleep(after)
            try:
                result = await asyncio.to_thread(work)
            except Exception as error:  # a damaged file must not end the app
                # Our errors say what a user can do; of others, the class says most.
                kind = "" if type(error).__module__.startswith("edt_") else f"{type(error).__name__}: "
                if self.is_attached:
                    self.failed(f"{kind}{error}")
                return
            if self.is_attached:
                then(result)

        self.run_worker(both(), exclusive=True, group=type(self).__name__)

    def clear_filter(self) -> bool:
        """Show all rows again, and return whether some were left out."""
        return False

    def failed(self, message: str) -> None:
        self.notify(message, severity="error", markup=False, timeout=8)
