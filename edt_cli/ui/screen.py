"""Base of all screens of the app: a line at the top with the location, sections, and the keys at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeGuard

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Footer, Static

from edt_cli.ui.chart import Chart
from edt_cli.ui.dialogs import Help
from edt_cli.ui.messages import Export
from edt_cli.ui.rows import Rows
from edt_cli.ui.sections import Sections
from edt_cli.ui.text import safe
from edt_cli.ui.tones import join


class EdtScreen(Screen[None]):
    """Screen with a section for each of `names`.

    If a pane has a method `entered`, it is called when the pane comes to the front.
    """

    BINDINGS = [
        Binding("escape", "back", "Back", show=False),
        Binding("tab", "app.focus_next", "Next pane", show=False),
        Binding("shift+tab", "app.focus_previous", "Pane before", show=False),
        *(Binding(str(n), f"section('{n}')", f"Section {n}", show=False) for n in range(10)),
        Binding("w", "export", "Write to a file", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]
    DEFAULT_CSS = """
    EdtScreen #top { height: 1; }
    EdtScreen #location { width: 1fr; text-style: bold; color: $primary; }
    EdtScreen #top Static { text-wrap: nowrap; text-overflow: ellipsis; }
    EdtScreen #aside { width: auto; max-width: 50%; text-align: right; }
    EdtScreen ContentSwitcher { height: 1fr; }
    """

    # Not the line of sections, which is the first widget: a section says what is in focus.
    AUTO_FOCUS = ""
    names: ClassVar[list[str]]
    first_number: ClassVar[int] = 1
    """Key of the first section."""

    def __init__(self) -> None:
        super().__init__()
        self._shown_texts: dict[str, tuple[str, ...]] = {}

    @property
    def reading(self) -> bool:
        """Whether something was not read yet that will be shown."""
        return False

    def panes(self) -> list[Widget]:
        """Return a pane for each of `names`, or for the first of them, where the others are mounted later."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Horizontal(id="top", classes="bar"):
            yield Static(id="location", markup=False)
            yield Static(id="aside", markup=False)
        yield Sections(self.names, self.first_number, id="sections")
        panes = self.panes()
        self.name_panes(panes)
        with ContentSwitcher(initial=_id(self.names[0]), id="panes"):
            yield from panes
        yield Footer(compact=True)

    def name_panes(self, panes: Sequence[Widget], first: int = 0) -> None:
        """Give panes the ids by which they are found, those of the sections from number `first` on."""
        for name, pane in zip(self.names[first:], panes, strict=False):
            pane.id = _id(name)

    def say(self, location: str, *aside: str) -> None:
        """Show the location at the top left and, if it is given, `aside` in parts at the top right."""
        # Update only what has changed: every update is sent to the terminal, even without a difference.
        shown = {"#location": (location,), **({"#aside": aside} if aside else {})}
        for selector, parts in shown.items():
            if self._shown_texts.get(selector) != parts:
                self._shown_texts[selector] = parts
                content = join(*parts) if selector == "#aside" else safe(parts[0], 300)
                self.query_one(selector, Static).update(content)

    @property
    def chosen(self) -> str:
        """Name of the section at the front."""
        return self.query_one(Sections).chosen

    def pane(self, name: str) -> Any:
        """Return the pane of a section."""
        return self.query_one(f"#{_id(name)}")

    def action_section(self, key: str) -> None:
        index = int(key) - self.first_number
        if 0 <= index < len(self.names):
            self.choose(self.names[index])

    def action_choose(self, name: str) -> None:
        self.choose(name)

    def on_sections_asked(self, event: Sections.Asked) -> None:
        event.stop()
        self.choose(event.name, focus=False)

    def choose(self, name: str, *, focus: bool = True) -> None:
        """Bring a section to the front, and with `focus` its first widget into focus."""
        self.query_one(Sections).choose(name)
        self.query_one("#panes", ContentSwitcher).current = _id(name)
        pane = self.pane(name)
        if focus:
            self.set_focus(next((w for w in [pane, *pane.query("*")] if w.can_focus and w.display), None))
        if hasattr(pane, "entered"):
            pane.entered()

    def action_back(self) -> None:
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()

    def at_hand(self) -> Rows | Chart | None:
        """Return the list or chart in focus, else the first one of the section that holds something."""
        shown = [self.focused, *self.pane(self.chosen).query("Rows, Chart")]
        return next((widget for widget in shown if _holds(widget)), None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "export" or self.at_hand() is not None

    def action_export(self) -> None:
        """Ask for a file, and write the table or chart at hand to it."""
        from edt_cli.ui.export import figure_of, table_of

        widget = self.at_hand()
        name = f"edt-{self.chosen.lower().replace(' ', '-')}"
        table = getattr(self.pane(self.chosen), "table", None)
        if isinstance(widget, Chart):
            chart = widget
            self.post_message(Export(lambda: figure_of(chart), f"{name}.png"))
        elif table is not None:
            self.post_message(Export(lambda: table, f"{name}.csv"))
        elif widget is not None:
            rows, title = widget, f"{self.chosen}, {self._shown_texts['#location'][0]}"
            self.post_message(Export(lambda: table_of(rows, title), f"{name}.csv"))

    def action_help(self) -> None:
        """Show the keys that work here: those of the widget in focus, of the section, of the screen, of the app."""
        groups: dict[str, dict[str, str]] = {}
        for active in self.active_bindings.values():
            binding = active.binding
            if not active.enabled or not binding.description or binding.key.isdigit():
                continue
            keys = groups.setdefault(self._group_of(active.node), {})
            shown = self.app.get_key_display(binding)
            keys[binding.description] = ", ".join(filter(None, [keys.get(binding.description), shown]))
        numbers = f"{self.first_number}-{self.first_number + len(self.names) - 1}"
        groups.setdefault("on this screen", {})["Sections"] = numbers
        order = [name for name in ("here", "in this section", "on this screen", "everywhere") if name in groups]
        self.app.push_screen(Help([(name, [(key, text) for text, key in groups[name].items()]) for name in order]))

    def _group_of(self, node: object) -> str:
        if node is self.app:
            return "everywhere"
        if isinstance(node, Screen):
            return "on this screen"
        return "here" if node is self.focused else "in this section"


def _holds(widget: Widget | None) -> TypeGuard[Rows | Chart]:
    """Return whether a widget is a list with rows or a chart with curves, and on the screen."""
    if isinstance(widget, Rows):
        return widget.count > 0 and widget.is_on_screen
    return isinstance(widget, Chart) and widget.is_on_screen and any(map(len, widget.curves.values()))


def _id(name: str) -> str:
    return f"pane-{name.lower().replace(' ', '-')}"
