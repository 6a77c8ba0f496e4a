"""Line of sections to choose from by number, with tab or with the mouse."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual.widgets import Static


class Sections(Static):
    """Line such as `1 Datasets 6  2 Runs 412 ...`; the chosen section is in brackets and reversed."""

    DEFAULT_CSS = "Sections { height: 1; width: 1fr; text-wrap: nowrap; text-overflow: clip; }"

    def __init__(self, names: list[str], id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.names = names
        self.counts: dict[str, str] = {}
        self.chosen = names[0]

    def on_mount(self) -> None:
        self.draw()

    def choose(self, name: str) -> None:
        """Highlight a section."""
        self.chosen = name
        self.draw()

    def count(self, name: str, count: str) -> None:
        """Show a count beside a section's name."""
        if self.counts.get(name) != count:
            self.counts[name] = count
            self.draw()

    def draw(self) -> None:
        """Draw the line."""
        line = Text(no_wrap=True, overflow="crop")
        for number, name in enumerate(self.names, start=1):
            label = f"{number} {name}" + (f" {self.counts[name]}" if self.counts.get(name) else "")
            here = name == self.chosen
            style = Style(bold=here, reverse=here, meta={"@click": f"screen.section({number - 1})"})
            line.append(f"[{label}]" if here else f" {label} ", style)
        self.update(line)
