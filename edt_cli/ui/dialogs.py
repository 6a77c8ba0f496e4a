"""Dialogs: help, stopping a run, yes or no, and a line of input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from edt_cli.ui.text import safe
from edt_cli.ui.tones import Tinted, lines, muted
from edt_cli.workspace.events import Request

MOUSE = "mouse: click a row, again to open it; click a head to sort; click a section or a key"
Keys = list[tuple[str, list[tuple[str, str]]]]
"""Groups of keys: the name of the group, and each key with what it does."""


class Help(ModalScreen[None]):
    """List of the keys that work on the screen behind, by group, read from its bindings."""

    BINDINGS = [Binding("escape,question_mark,q,enter", "dismiss", "Back", show=False)]
    DEFAULT_CSS = """
    Help { align: center middle; }
    Help VerticalScroll { width: 78; max-width: 96%; height: auto; max-height: 90%; }
    """

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self.keys = keys

    def compose(self) -> ComposeResult:
        rows: list[list[str]] = []
        for group, keys in self.keys:
            rows.append([Tinted(group, "accent", bold=True)])
            rows += [[f"  {key:<20}", description] for key, description in keys]
        with VerticalScroll(classes="frame") as box:
            box.border_title = "keys"
            box.border_subtitle = "esc back"
            yield Static(lines([*rows, [muted(MOUSE)]]), markup=False)


class Stop(ModalScreen["Request | Literal['leave'] | None"]):
    """Question of whether to stop after this epoch, now, or not at all. Finished work is kept in every case.

    Args:
        training: Whether there are epochs: other work stops between two of its units.
        leaving: Whether one can also close the view, after Ctrl-C.
        command: The command that goes on with the work.
        count: Number of runs or jobs that are stopped.
        llm: Counts of the LLM stage that is at work, if there is one.
    """

    BINDINGS = [
        Binding("e", "answer('stop-after-epoch')", "After this epoch"),
        Binding("n", "answer('stop-now')", "Now"),
        Binding("l", "answer('leave')", "Leave it running"),
        Binding("escape,q,x", "answer('')", "Not at all"),
    ]
    DEFAULT_CSS = """
    Stop { align: center middle; }
    Stop Static { width: 72; max-width: 96%; height: auto; padding: 1 2; }
    """

    def __init__(
        self,
        *,
        training: bool,
        leaving: bool = False,
        command: str = "",
        count: int = 1,
        llm: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.training, self.leaving, self.command, self.count = training, leaving, command, count
        self.llm = llm or {}

    def compose(self) -> ComposeResult:
        question = Static(self.text(), classes="frame", markup=False)
        question.border_title = "stop"
        yield question

    def text(self) -> str:
        """Return the question: what is lost, what was paid, and how to go on."""
        after = "  e    after this epoch, with a checkpoint\n" if self.training else ""
        leave = "  l    not at all: leave it running and close this view\n" if self.leaving else ""
        lost = "what came after the last checkpoint is lost" if self.training else "every reply so far is kept"
        what = ("run" if self.training else "job") + ("s" if self.count > 1 else "")
        again = f"\n\n{safe(self.command, 300)}" if self.command else ""
        spent = f"{self.llm.get('new', 0):,} new calls, {self.llm.get('spent_usd') or 0.0:.4f} USD so far"
        so_far = f"{spent}; calls under way come to their end.\n\n" if self.llm else ""
        return (
            f"Stop {f'these {self.count}' if self.count > 1 else 'this'} {what}?\n\n{so_far}{after}"
            f"  n    now: {lost}{'; so does Ctrl-C again' if self.leaving else ''}\n{leave}"
            "  esc  not at all, go on watching\n\n"
            f"The same command goes on where it stopped.{again}"
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if parameters == ("leave",):
            return self.leaving
        return self.training or parameters != ("stop-after-epoch",)

    def action_answer(self, answer: str) -> None:
        answers: dict[str, Request | Literal["leave"]] = {
            "stop-after-epoch": "stop-after-epoch",
            "stop-now": "stop-now",
            "leave": "leave",
        }
        self.dismiss(answers.get(answer))


class Sure(ModalScreen[bool]):
    """Question that is answered with y or esc, before something is lost.

    Args:
        title: What is to be done.
        rows: What will happen, in lines.
    """

    BINDINGS = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("escape,q,n", "dismiss(False)", "No"),
    ]
    DEFAULT_CSS = """
    Sure { align: center middle; }
    Sure Static { width: 72; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; }
    """

    def __init__(self, title: str, rows: Sequence[Sequence[str] | str]) -> None:
        super().__init__()
        self.question, self.rows = title, rows

    def compose(self) -> ComposeResult:
        keys = [[], [Tinted("  y", "accent", bold=True), "    yes"], [Tinted("  esc", "accent"), "  no"]]
        box = Static(lines([*self.rows, *keys]), classes="frame", markup=False)
        box.border_title = self.question
        yield box


class Question(ModalScreen["str | None"]):
    """Input of one line of text, such as a filter.

    Args:
        hint: What can be entered.
        value: Text at the beginning.
        typed: Function that is called with the text as it is typed; after esc, with the first one again.
    """

    BINDINGS = [Binding("escape", "give_up", "Back", show=False)]
    DEFAULT_CSS = """
    Question { align: center bottom; background: $background 0%; }
    Question Input { width: 100%; border: none; height: 1; padding: 0 1; }
    Question Static { width: 100%; height: 1; padding: 0 1; }
    """

    def __init__(self, hint: str, value: str = "", typed: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.hint, self.value, self.typed = hint, value, typed

    def compose(self) -> ComposeResult:
        yield Static(self.hint, markup=False, classes="bar")
        yield Input(self.value, compact=True, select_on_focus=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        if self.typed is not None:
            self.typed(event.value.strip())

    def action_give_up(self) -> None:
        if self.typed is not None:
            self.typed(self.value)
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())
