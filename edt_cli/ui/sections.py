"""Line of sections to choose from by number, with the arrows or with the mouse."""

from __future__ import annotations

from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.style import Style
from textual.widgets import Static


class Sections(Static, can_focus=True):
    """Line such as `1 Datasets 6  2 Runs 412 ...`; the chosen section is in brackets and reversed."""

    class Asked(Message):
        """Request to bring a section to the front."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    BINDINGS = [
        Binding("left,h", "go(-1)", "Section before", show=False),
        Binding("right,l", "go(1)", "Next section", show=False),
    ]
    DEFAULT_CSS = """
    Sections { height: 1; width: 1fr; text-wrap: nowrap; text-overflow: clip; link-style: none;
        link-color: $foreground; link-style-hover: bold;
        link-color-hover: $primary; link-background-hover: $panel; }
    Sections:focus { text-style: underline; }
    """

    def __init__(self, names: list[str], first_number: int = 1, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.names = names
        self.first_number = first_number
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

    def action_go(self, by: int) -> None:
        self.post_message(self.Asked(self.names[(self.names.index(self.chosen) + by) % len(self.names)]))

    def draw(self) -> None:
        """Draw the line."""
        labels = []
        for number, name in enumerate(self.names, start=self.first_number):
            label = f"{number} {name}" + (f" {self.counts[name]}" if self.counts.get(name) else "")
            here = name == self.chosen
            if here:
                labels.append(Content.styled(f"[{label}]", "bold reverse $tone-accent"))
            else:
                click = Style.from_meta({"@click": f"screen.section('{number}')"})
                labels.append(Content.styled(f" {label} ", click))
        self.update(Content("").join(labels))
