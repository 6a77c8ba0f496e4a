"""A prompt tried on one user by `edt prompts try`: its form, the question before it spends, and what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from edt_cli.ui.command_form import CommandForm, choice, choice_of_llm, line
from edt_cli.ui.dialogs import Sure
from edt_cli.ui.form import may_spend, options_of_llm
from edt_cli.ui.listing import Listing
from edt_cli.ui.processes import output_of
from edt_cli.ui.rows import Col
from edt_cli.ui.screen import EdtScreen
from edt_cli.ui.text import paragraph, safe
from edt_cli.ui.tones import Tinted, lines, muted
from edt_cli.ui.user_screen import GENERATED, generated_line
from edt_cli.workspace.jobs import as_typed
from edt_cli.workspace.layout import Workspace

if TYPE_CHECKING:
    from edt_cli.ui.acts import Acts

PROMPTS = ("generate", "summarize", "reform", "analyze", "naive")
TEXTS = [Col("", 12), Col("what was read", 60, grow=True)]


@dataclass(frozen=True)
class Choices:
    """What the form offers: names of datasets and of LLM providers."""

    datasets: list[str]
    providers: list[str]


def read_choices(workspace: Workspace) -> Choices:
    """Read what there is to choose from."""
    from edt_backends.registry import provider_names

    return Choices(
        list(dict.fromkeys([*(artefact.key for artefact in workspace.datasets()), "demo"])), provider_names()
    )


class TrialForm(CommandForm):
    """Form of `edt prompts try`.

    Args:
        workspace: The workspace.
        choices: What there is to choose from.
        first: Values of `data`, `user` and `prompt` at the beginning, as far as they are known.
    """

    AUTO_FOCUS = "#prompt"
    heading = "try a prompt on one user"
    start = "Ask"
    count = "Show the question"

    def __init__(self, workspace: Workspace, choices: Choices, first: Mapping[str, str]) -> None:
        super().__init__(workspace)
        self.choices, self.first = choices, first

    def rows(self) -> ComposeResult:
        datasets, prompt = self.choices.datasets, self.first.get("prompt", "")
        data = self.first.get("data", "")
        names = [(name, name) for name in datasets]
        yield from self.field("data", choice(names, data if data in datasets else datasets[0], "data"))
        user = self.first.get("user") or "one-domain"
        yield from self.field("user", line("user", user, "one-domain: the first with items in one domain"))
        prompts = [(name, name) for name in PROMPTS]
        yield from self.field("prompt", choice(prompts, prompt if prompt in PROMPTS else PROMPTS[0], "prompt"))
        yield from self.field("llm", choice_of_llm(self.choices.providers))
        yield from self.field("budget", line("budget", "", "USD at most, for an LLM that sends a bill"))
        hint = "other options, such as --llm-model llama3.1 --prompts my-prompts"
        yield from self.field("more", line("more", "", hint))

    def arguments_of(self, fields: Mapping[str, str]) -> list[str]:
        about = ["--user", fields["user"] or "one-domain", "--data", fields["data"]]
        return ["prompts", "try", fields["prompt"], *about, *options_of_llm(fields)]


async def document_of(workspace: Workspace, arguments: Sequence[str]) -> dict[str, Any] | str:
    """Return the document of a command with --json, or its last word of why there is none."""
    words = [sys.executable, "-m", "edt_cli", *arguments, "--json"]
    _, out, err = await output_of([*words, "--workspace", workspace.address])
    try:
        document: dict[str, Any] = json.loads(out)
    except ValueError:
        told = [text for text in err.decode("utf-8", "replace").splitlines() if text.strip()]
        return told[-1] if told else "no answer"
    return document


def before_spending(document: Mapping[str, Any], arguments: Sequence[str]) -> list[list[str]]:
    """Return what a trial would ask and cost, in lines."""
    most = document.get("most_usd")
    count = len(document.get("exchanges", ()))
    told = f"{count} {'question' if count == 1 else 'questions'}, {most:.6f} USD at most" if most else ""
    unknown = "What it costs is not known before: its question depends on other replies, or the price is not known."
    return [
        [f"This asks {safe(document.get('llm', 'an LLM'), 60)}, which may send a bill."],
        [Tinted(told, "warn") if told else unknown],
        [],
        [muted(as_typed(arguments))],
    ]


def try_prompt(acts: Acts, first: Mapping[str, str]) -> None:
    """Show the form of a prompt to try, ask before it spends, and show what came of it.

    Args:
        acts: The acts of the app.
        first: What the form holds at the beginning.
    """
    app, workspace = acts.app, acts.workspace

    def ask(arguments: list[str], yes: bool | None = True) -> None:
        if yes:
            app.push_screen(TrialScreen(workspace, arguments))

    async def counted(arguments: list[str]) -> None:
        document = await document_of(workspace, [*arguments, "--dry-run"])
        if isinstance(document, str):
            acts.say(document, error=True)
        else:
            app.push_screen(Sure("ask an LLM", before_spending(document, arguments)), partial(ask, arguments))

    def answered(arguments: list[str] | None) -> None:
        if arguments is not None and may_spend(arguments):
            app.run_worker(counted(arguments), group="acts", exit_on_error=True)
        elif arguments is not None:
            ask(arguments)

    acts.reading(
        lambda: read_choices(workspace),
        lambda choices: app.push_screen(TrialForm(workspace, choices, first), answered),
    )


class TrialScreen(EdtScreen):
    """Screen of a prompt tried on a user: the question and the raw reply, and what was read in it.

    Args:
        workspace: The workspace.
        arguments: Arguments of `edt prompts try`, which begins when the screen is shown.
    """

    names: ClassVar[list[str]] = ["Reply", "Read in it"]
    BINDINGS = [Binding("y", "copy", "Copy the command")]

    def __init__(self, workspace: Workspace, arguments: Sequence[str]) -> None:
        super().__init__()
        self.workspace, self.arguments = workspace, list(arguments)
        self._asking = True

    @property
    def reading(self) -> bool:
        return self._asking

    def panes(self) -> list[Widget]:
        return [Exchanges(), Listing("nothing was read in the reply")]

    def on_mount(self) -> None:
        self.say(f"edt > prompts > {self.arguments[2]}", "asking ...")
        self.choose("Reply")
        self.query_one(Exchanges).show(lines([["asking ..."], [], [muted(as_typed(self.arguments))]]))
        self.run_worker(self._ask(), exit_on_error=False)

    async def _ask(self) -> None:
        document = await document_of(self.workspace, [*self.arguments, "--yes"])
        self._asking = False
        if not self.is_attached:
            return
        if isinstance(document, str):
            self.say(f"edt > prompts > {self.arguments[2]}", Tinted("no reply", "bad"))
            self.query_one(Exchanges).show(lines([[Tinted(safe(document), "bad")], [], [self._command()]]))
            return
        about = f"{safe(document['user'], 40)} of {safe(document['data'], 40)}"
        self.say(f"edt > prompts > {safe(document['prompt'], 40)} > {about}", price_of(document))
        self.query_one(Exchanges).show(Content("\n").join([said(document), lines([[], [self._command()]])]))
        items = document.get("items")
        if items is None:
            self.pane("Read in it").show(TEXTS, _texts(document))
        else:
            self.pane("Read in it").show(GENERATED, [generated_line(item, {}) for item in items])

    def _command(self) -> str:
        return muted(as_typed(self.arguments))

    def action_copy(self) -> None:
        """Copy the command, and show it, as not every terminal lets an app copy."""
        self.app.copy_to_clipboard(as_typed(self.arguments))
        self.notify(f"copied, where the terminal lets an app copy:\n{as_typed(self.arguments)}", markup=False)


class Exchanges(VerticalScroll, can_focus=True):
    """Questions and replies, as text."""

    def compose(self) -> ComposeResult:
        yield Static(id="exchanges", markup=False)

    def show(self, content: Content) -> None:
        """Show a text."""
        self.query_one("#exchanges", Static).update(content)


def said(document: Mapping[str, Any]) -> Content:
    """Return the questions and replies of a trial, word for word, and what is otherwise than in the whole stage."""
    rows: list[list[str]] = [[f"to {safe(document['llm'], 80)}, prompt {safe(document['file'], 200)}"]]
    rows += [[muted(safe(note))] for note in document["notes"]]
    mended = ", ".join(f"{count} {safe(what, 80)}" for what, count in (document.get("mended") or {}).items())
    rows += [[f"mended: {mended}"]] if mended else []
    rows += [[Tinted(safe(why), "bad")] for why in document["failed"]]
    for exchange in document["exchanges"]:
        for message in exchange["messages"]:
            rows += [[], [Tinted(f"{safe(message['role'], 20)}, {safe(exchange['prompt'], 60)}", "accent")]]
            rows += [[text] for text in paragraph(message["content"]).splitlines()]
        tokens = f"{exchange['prompt_tokens']:,} tokens in, {exchange['completion_tokens']:,} out"
        kept = ", kept from before" if exchange["cached"] else ""
        rows += [[], [Tinted("reply", "good", bold=True), muted(f"   {tokens}{kept}")]]
        rows += [[Tinted(text, bold=True)] for text in paragraph(exchange["reply"]).splitlines()]
    return lines(rows)


def price_of(document: Mapping[str, Any]) -> str:
    """Return what a trial cost."""
    cost, now = document["cost_usd"], document["spent_usd"]
    calls = f"{document['calls']} {'call' if document['calls'] == 1 else 'calls'}"
    if cost is None:
        return f"{calls}, at a price that is not known"
    return f"{calls}, {cost:.6f} USD, {now:.6f} of it now" if cost else f"{calls}, which cost nothing"


def _texts(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return what was read in the replies of a profile."""
    summaries = [(f"{one['domain']}, {one['cluster']}", one["summary"]) for one in document.get("summaries", ())]
    instructions = [("instruction", text) for text in document.get("instructions", ())]
    profile = [("profile", document["profile"])] if document.get("profile") else []
    return [(muted(safe(head, 40)), safe(text)) for head, text in [*summaries, *instructions, *profile]]
