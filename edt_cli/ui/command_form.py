"""Form that ends with the arguments of a command, which it shows as it will run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

from edt_cli.config import UserError
from edt_cli.ui.processes import output_of
from edt_cli.ui.text import paragraph
from edt_cli.ui.tones import Tinted, lines, muted
from edt_cli.workspace.jobs import as_typed
from edt_cli.workspace.layout import Workspace

AS_BEFORE = ""
"""Value of a choice that is left to the preset."""


class CommandForm(ModalScreen["list[str] | None"]):
    """Form of a command; it ends with the arguments of `edt`, or with None.

    Args:
        workspace: The workspace.
    """

    BINDINGS = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("ctrl+s", "start", "Start", show=False),
    ]
    DEFAULT_CSS = """
    CommandForm { align: center middle; }
    CommandForm #form { width: 92; max-width: 96%; height: auto; max-height: 96%; }
    CommandForm .field { height: 1; }
    CommandForm Label { width: 12; color: $tone-muted; }
    CommandForm .field Select, CommandForm .field Input { width: 1fr; height: 1; }
    CommandForm #told-box { height: auto; max-height: 10; margin: 1 0; }
    CommandForm #told { height: auto; }
    CommandForm #buttons { height: 1; }
    CommandForm Button { margin-right: 2; min-width: 10; }
    """
    heading: ClassVar[str]
    start: ClassVar[str] = "Start"
    """Label of the button that ends the form with its arguments."""
    count: ClassVar[str] = "What it asks and costs"
    """Label of the button that shows what the command says with --dry-run."""
    quiet: ClassVar[tuple[str, ...]] = ()
    """Further options for --dry-run."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace = workspace

    def rows(self) -> ComposeResult:
        """Yield the fields, by `field`."""
        raise NotImplementedError

    def arguments_of(self, fields: Mapping[str, str]) -> list[str]:
        """Return the arguments of `edt` for what the form holds.

        Raises:
            UserError: If a field holds what the command cannot be given.
        """
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(id="form", classes="frame") as box:
            box.border_title = self.heading
            box.border_subtitle = f"tab next field, enter chooses, ctrl+s {self.start.lower()}, esc back"
            yield from self.rows()
            with VerticalScroll(id="told-box"):
                yield Static(id="told", markup=False)
            with Horizontal(id="buttons"):
                yield Button(self.start, id="start", variant="primary", compact=True)
                yield Button(self.count, id="count", compact=True)
                yield Button("Copy", id="copy", compact=True)
                yield Button("Back", id="back", compact=True)

    def field(self, name: str, widget: Select[str] | Input) -> ComposeResult:
        """Yield a line with a name and a widget."""
        with Horizontal(classes="field"):
            yield Label("LLM" if name == "llm" else name)
            yield widget

    def on_mount(self) -> None:
        self._tell()

    def fields(self) -> dict[str, str]:
        """Return what the form holds."""
        choices = {str(select.id): "" if select.is_blank() else str(select.value) for select in self.query(Select)}
        return {**choices, **{str(one.id): one.value.strip() for one in self.query(Input)}}

    def on_select_changed(self, event: Select.Changed) -> None:
        self._tell()

    def on_input_changed(self) -> None:
        self._tell()

    def on_input_submitted(self) -> None:
        self.focus_next()

    def _arguments(self) -> list[str] | None:
        """Return the arguments for what the form holds, or show what is wrong with it and return None."""
        try:
            return self.arguments_of(self.fields())
        except UserError as error:
            self._show(lines([[Tinted(str(error), "bad")]]))
            return None

    def _tell(self) -> None:
        """Show the command, or what is wrong."""
        arguments = self._arguments()
        self.query_one("#start", Button).disabled = arguments is None
        if arguments is not None:
            self._show(lines([[muted("will run  "), as_typed(arguments)]]))

    def _show(self, content: Content) -> None:
        self.query_one("#told", Static).update(content)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "start":
            self.action_start()
        elif event.button.id == "count":
            self._count()
        elif event.button.id == "copy":
            if (arguments := self._arguments()) is not None:
                self.app.copy_to_clipboard(as_typed(arguments))
                self.notify("copied, where the terminal lets an app copy", markup=False)
        else:
            self.dismiss(None)

    def action_start(self) -> None:
        if (arguments := self._arguments()) is not None:
            self.dismiss(arguments)

    def _count(self) -> None:
        """Show what the command would ask an LLM, and what that costs, as `--dry-run` says it."""
        if (arguments := self._arguments()) is not None:
            command = lines([[muted("counting  "), as_typed([*arguments, "--dry-run"])]])
            self._show(command)
            self.run_worker(self._dry_run(arguments), exclusive=True, group="count")

    async def _dry_run(self, arguments: list[str]) -> None:
        words = [sys.executable, "-m", "edt_cli", *arguments, "--dry-run", *self.quiet]
        if "--workspace" not in arguments:
            words += ["--workspace", self.workspace.address]
        code, out, err = await output_of(words)
        told = (out if code == 0 else err).decode("utf-8", "replace")
        if self.is_attached:
            self._show(Content(paragraph(told.strip() or "nothing was said", 4000)))


def choice(options: list[tuple[str, str]], value: str, id: str) -> Select[str]:
    """Return a choice of labels with their values."""
    return Select(options, value=value, allow_blank=False, compact=True, id=id)


def line(id: str, value: str, hint: str) -> Input:
    """Return a line of text; the hint is shown while it is empty."""
    return Input(value, placeholder=hint, compact=True, id=id, select_on_focus=False)


def choice_of_llm(names: list[str], given: str = AS_BEFORE) -> Select[str]:
    """Return the choice of a provider, that of the preset first."""
    options = [("as the preset has it", AS_BEFORE), *((name, name) for name in names)]
    options += [(given, given)] if given not in (AS_BEFORE, *names) else []
    return choice(options, given, "llm")
