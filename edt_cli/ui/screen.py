"""What all screens of the app share: a line at the top that says where one is, sections, and the keys below."""

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
    """`panes()` are the sections, by name; a pane that has `entered` is told when it comes to the front."""

    BINDINGS = [
        Binding("escape", "back", "Back", show=False),
        Binding("tab", "next_section(1)", "Next section", show=False, priority=True),
        Binding("shift+tab", "next_section(-1)", "Previous section", show=False, priority=True),
        *(Binding(str(n), f"section({n - 1})", f"Section {n}", show=False) for n in range(1, 7)),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]
    DEFAULT_CSS = """
    EdtScreen #top { height: 1; }
    EdtScreen #place { width: 1fr; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
    EdtScreen #aside { width: auto; max-width: 50%; text-align: right; text-wrap: nowrap; text-overflow: ellipsis; }
    EdtScreen ContentSwitcher { height: 1fr; }
    """

    names: ClassVar[list[str]]

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, str] = {}

    def panes(self) -> list[Widget]:
        """One for each of `names`."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Horizontal(id="top", classes="bar"):
            yield Static(id="place", markup=False)
            yield Static(id="aside", markup=False)
        yield Sections(self.names, id="sections")
        panes = self.panes()
        for name, pane in zip(self.names, panes, strict=True):
            pane.id = _id(name)
        with ContentSwitcher(initial=_id(self.names[0]), id="panes"):
            yield from panes
        yield Footer(compact=True)

    def say(self, place: str, aside: str | None = None) -> None:
        """Where one is, and what is to be known everywhere."""
        # Only what is new: an update is sent to the terminal, though it be the same.
        for name, told in (("#place", place), ("#aside", aside)):
            if told is not None and self._said.get(name) != told:
                self._said[name] = told
                self.query_one(name, Static).update(safe(told, 300))

    @property
    def chosen(self) -> str:
        return self.query_one(Sections).chosen

    def pane(self, name: str) -> Any:
        return self.query_one(f"#{_id(name)}")

    def action_section(self, place: int) -> None:
        if place < len(self.names):
            self.choose(self.names[place])

    def action_choose(self, name: str) -> None:
        self.choose(name)

    def action_next_section(self, by: int) -> None:
        self.choose(self.names[(self.names.index(self.chosen) + by) % len(self.names)])

    def choose(self, name: str) -> None:
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
        self.app.push_screen(Help([(key, told) for told, key in keys.items()]))


def _id(name: str) -> str:
    return f"pane-{name.lower().replace(' ', '-')}"
