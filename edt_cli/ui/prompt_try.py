"""A prompt tried on one user from the app: the options of `edt prompts try` are typed, its output is shown."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from edt_cli.ui.processes import output_of
from edt_cli.ui.text import paragraph

HINT = (
    "edt prompts try: a prompt's name and options; --dry-run asks nobody, --yes pays, --prompts DIR tries your own"
)


def first_words(llm: str) -> str:
    """Return what stands in the line at first: the LLM of the run at hand, and nobody is asked."""
    asked = "" if not llm or llm.startswith("local") else f" --provider {shlex.quote(llm)}"
    return f"generate{asked} --dry-run"


class PromptTry(ModalScreen[None]):
    """Output of `edt prompts try`, which runs in a separate process.

    Args:
        typed: The prompt's name and options.
        user: Id of the user.
        data: Name of the dataset.
        workspace: Folder of the workspace.
    """

    BINDINGS: ClassVar = [Binding("escape,q", "dismiss", "Back", show=False)]
    DEFAULT_CSS = """
    PromptTry { align: center middle; }
    PromptTry VerticalScroll { width: 96%; height: 90%; padding: 0 1; }
    """

    def __init__(self, typed: str, *, user: str, data: str, workspace: Path) -> None:
        super().__init__()
        self.typed = typed
        self.about = ["--user", user, "--data", data, "--workspace", str(workspace)]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="frame") as box:
            box.border_title = "prompts try"
            yield Static(f"edt prompts try {self.typed} ...", id="tried", markup=False)

    def on_mount(self) -> None:
        self.run_worker(self._try(), exclusive=True)

    async def _try(self) -> None:
        try:
            words = command(self.typed, self.about)
        except ValueError as error:
            text = f"{self.typed}: {error}"
        else:
            _, out, err = await output_of(words)
            text = b"\n".join(part.strip() for part in (out, err)).decode("utf-8", "replace").strip()
        if self.is_attached:
            self.query_one("#tried", Static).update(paragraph(text))


def command(typed: str, about: Sequence[str]) -> list[str]:
    """Return the words of the command.

    Raises:
        ValueError: If a quotation in what was typed has no end.
    """
    return [sys.executable, "-m", "edt_cli", "prompts", "try", *shlex.split(typed), *about]
