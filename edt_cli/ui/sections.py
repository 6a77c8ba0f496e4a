"""A line of sections to choose from by number, by tab or by mouse."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual.widgets import Static


class Sections(Static):
    """`1 Datasets 6  2 Runs 412 ...`; the chosen one stands in brackets and reversed."""

    DEFAULT_CSS = "Sections { height: 1; width: 1fr; text-wrap: nowrap; text-overflow: clip; }"

    def __init__(self, names: list[str], id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.names = names
        self.counts: dict[str, str] = {}
        self.chosen = names[0]

    def on_mount(self) -> None:
        self.draw()

    def choose(self, name: str) -> None:
        self.chosen = name
        self.draw()

    def count(self, name: str, told: str) -> None:
        if self.counts.get(name) != told:
            self.counts[name] = told
            self.draw()

    def draw(self) -> None:
        line = Text(no_wrap=True, overflow="crop")
        for place, name in enumerate(self.names, start=1):
            told = f"{place} {name}" + (f" {self.counts[name]}" if self.counts.get(name) else "")
            here = name == self.chosen
            style = Style(bold=here, reverse=here, meta={"@click": f"screen.section({place - 1})"})
            line.append(f"[{told}]" if here else f" {told} ", style)
        self.update(line)
