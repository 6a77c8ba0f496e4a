"""Base of all screens of the app: a line at the top with the location, sections, and the keys at the bottom."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Footer, Static

from edt_cli.ui.dialogs import Help
from edt_cli.ui.sections import Sections
from edt_cli.ui.text import safe


class EdtScreen(Screen[None]):
    """Screen with a section for each of `names`.

    If a pane has a method `entered`, it is called when the pane comes to the front.
    """

    BINDINGS = [
        Binding("escape", "back", "Back", show=False),
        Binding("tab", "next_section(1)", "Next section", show=False, priority=True),
        Binding("shift+tab", "next_section(-1)", "Previous section", show=False, priority=True),
        *(Binding(str(n), f"section({n - 1})", f"Section {n}", show=False) for n in range(1, 7)),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]
    DEFAULT_CSS = """
    EdtScreen #top { height: 1; }
    EdtScreen #location { width: 1fr; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
    EdtScreen #aside { width: auto; max-width: 50%; text-align: right; text-wrap: nowrap; text-overflow: ellipsis; }
    EdtScreen ContentSwitcher { height: 1fr; }
    """

    names: ClassVar[list[str]]

    def __init__(self) -> None:
        super().__init__()
        self._shown_texts: dict[str, str] = {}

    def panes(self) -> list[Widget]:
        """Return a pane for each of `names`."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Horizontal(id="top", classes="bar"):
            yield Static(id="location", markup=False)
            yield Static(id="aside", markup=False)
        yield Sections(self.names, id="sections")
        panes = self.panes()
        for name, pane in zip(self.names, panes, strict=True):
            pane.id = _id(name)
        with ContentSwitcher(initial=_id(self.names[0]), id="panes"):
            yield from panes
        yield Footer(compact=True)

    def say(self, location: str, aside: str | None = None) -> None:
        """Show the location at the top left and `aside` at the top right."""
        # Update only what has changed: every update is sent to the terminal, even without a difference.
        for selector, text in (("#location", location), ("#aside", aside)):
            if text is not None and self._shown_texts.get(selector) != text:
                self._shown_texts[selector] = text
                self.query_one(selector, Static).update(safe(text, 300))

    @property
    def chosen(self) -> str:
        """Name of the section at the front."""
        return self.query_one(Sections).chosen

    def pane(self, name: str) -> Any:
        """Return the pane of a section."""
        return self.query_one(f"#{_id(name)}")

    def action_section(self, index: int) -> None:
        if index < len(self.names):
            self.choose(self.names[index])

    def action_choose(self, name: str) -> None:
        self.choose(name)

    def action_next_section(self, by: int) -> None:
        self.choose(self.names[(self.names.index(self.chosen) + by) % len(self.names)])

    def choose(self, name: str) -> None:
        """Bring a section to the front."""
        self.query_one(Sections).choose(name)
        self.query_one("#panes", ContentSwitcher).current = _id(name)
        pane = self.pane(name)
        first = next((w for w in [pane, *pane.query("*")] if w.can_focus and w.display), None)
        self.set_focus(first)
        if hasattr(pane, "entered"):
            pane.entered()

    def action_back(self) -> None:
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()

    def action_help(self) -> None:
        keys: dict[str, str] = {}
        for active in sorted(self.active_bindings.values(), key=lambda active: not active.binding.show):
            binding = active.binding
            if active.enabled and binding.description and not binding.key.isdigit():
                shown = self.app.get_key_display(binding)
                keys[binding.description] = ", ".join(filter(None, [keys.get(binding.description), shown]))
        self.app.push_screen(Help([(key, description) for description, key in keys.items()]))


def _id(name: str) -> str:
    return f"pane-{name.lower().replace(' ', '-')}"
