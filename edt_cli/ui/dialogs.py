"""Dialogs: help, stopping a run, and a line of input."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from edt_cli.workspace.events import Request

MOVES = """\
 arrows, hjkl      move               g G    first, last
 enter             open               space  mark
 o                 sort by the column of the cursor, again: the other way
 / filter          words, field:text, field=text, field>number, !term
 1-6, tab          sections           esc    back
 ctrl+p            everything by name ?      this help
 mouse             click a row, again to open it; click a section or a key
"""


class Help(ModalScreen[None]):
    """List of the keys that work on the screen behind, read from its bindings."""

    BINDINGS = [Binding("escape,question_mark,q,enter", "dismiss", "Back", show=False)]
    DEFAULT_CSS = """
    Help { align: center middle; }
    Help VerticalScroll { width: 78; max-width: 96%; height: auto; max-height: 90%; }
    """

    def __init__(self, keys: list[tuple[str, str]]) -> None:
        super().__init__()
        self.keys = keys

    def compose(self) -> ComposeResult:
        lines = "\n".join(f" {key:<18}{description}" for key, description in self.keys)
        with VerticalScroll(classes="frame") as box:
            box.border_title = "keys"
            box.border_subtitle = "esc back"
            yield Static(f"{lines}\n\n{MOVES}", markup=False)


class Stop(ModalScreen["Request | None"]):
    """Question of whether to stop after this epoch, now, or not at all. Finished work is kept in every case."""

    BINDINGS = [
        Binding("e", "answer('stop-after-epoch')", "After this epoch"),
        Binding("n", "answer('stop-now')", "Now"),
        Binding("escape,q,x", "answer('')", "Not at all"),
    ]
    DEFAULT_CSS = """
    Stop { align: center middle; }
    Stop Static { width: 62; height: auto; padding: 1 2; }
    """

    def compose(self) -> ComposeResult:
        question = Static(
            "Stop this run?\n\n"
            "  e    after this epoch, with a checkpoint\n"
            "  n    now: what came after the last checkpoint is lost\n"
            "  esc  not at all\n\n"
            "The same command goes on where it stopped.",
            classes="frame",
            markup=False,
        )
        question.border_title = "stop"
        yield question

    def action_answer(self, answer: str) -> None:
        requests: dict[str, Request] = {"stop-after-epoch": "stop-after-epoch", "stop-now": "stop-now"}
        self.dismiss(requests.get(answer))


class Question(ModalScreen["str | None"]):
    """Input of one line of text, such as a filter; `hint` says what can be entered."""

    BINDINGS = [Binding("escape", "dismiss(None)", "Back", show=False)]
    DEFAULT_CSS = """
    Question { align: center bottom; background: $background 0%; }
    Question Input { width: 100%; border: none; height: 1; padding: 0 1; }
    Question Static { width: 100%; height: 1; padding: 0 1; }
    """

    def __init__(self, hint: str, value: str = "") -> None:
        super().__init__()
        self.hint, self.value = hint, value

    def compose(self) -> ComposeResult:
        yield Static(self.hint, markup=False, classes="bar")
        yield Input(self.value, compact=True, select_on_focus=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())
