"""List of lines that can be searched, with the whole line under the cursor below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Static

from edt_cli.ui.dialogs import Question
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import paragraph, safe

Line = tuple[str, ...]


class Listing(Vertical):
    """List of lines, which can be searched, with the full text of the line under the cursor below it."""

    BINDINGS = [Binding("slash", "filter", "Search", key_display="/")]
    DEFAULT_CSS = """
    Listing #whole { height: 3; }
    """

    def __init__(self, empty: str) -> None:
        super().__init__()
        self.empty = empty
        self.text = ""
        self.columns: list[Col] = []
        self.lines: Sequence[Line] = []
        self.line_of: Callable[[int], Line] = lambda row: ()
        """The line of a row."""

    def compose(self) -> ComposeResult:
        yield Rows(empty=self.empty)
        yield Static(id="whole", classes="bar", markup=False)

    def show(self, columns: list[Col], lines: Sequence[Line]) -> None:
        self.columns, self.lines = columns, lines
        self._filter(self.text)

    def _filter(self, text: str | None) -> None:
        """Show the lines with all words of a text in them."""
        if text is None:
            return
        self.text = text
        words = text.casefold().split()
        shown = [line for line in self.lines if all(word in " ".join(line).casefold() for word in words)]
        self.line_of = shown.__getitem__
        rows = self.query_one(Rows)
        rows.empty = f"no line has {safe(text, 100)!r} in it" if text and self.lines else self.empty
        rows.load(self.columns, len(shown), self.line_of)

    def action_filter(self) -> None:
        self.app.push_screen(Question("words; all must be in a line", self.text, self._filter), self._filter)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        line = self.line_of(event.row) if event.row < event.rows.count else ()
        self.query_one("#whole", Static).update(paragraph("  ".join(line), 2000))
