"""Form of a new run, which shows the command that it will start."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

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

OPTIONS = {
    "--data": "data",
    "-d": "data",
    "--model": "system",
    "-m": "system",
    "--preset": "preset",
    "--seeds": "seeds",
    "--device": "device",
    "--provider": "llm",
    "--max-cost": "budget",
}
"""Options of `edt train` that have a field of their own, and its name."""
AS_BEFORE = ""
"""Value of a choice that is left to the preset."""
WITHOUT_BILL = ("local", "ollama")
"""Providers that send no bill."""
DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class Choices:
    """What the form offers.

    Attributes:
        datasets: Names of the datasets.
        systems: Title of each system.
        presets: Presets of each system, its default first.
        providers: Names of LLM providers.
        asking: Systems that an LLM has a part in.
    """

    datasets: list[str]
    systems: dict[str, str]
    presets: dict[str, list[str]]
    providers: list[str]
    asking: frozenset[str]


def read_choices(workspace: Workspace) -> Choices:
    """Read what there is to choose from. This reads every preset: never call it in the thread that draws."""
    from edt_backends.registry import provider_names
    from edt_cli.models.systems import asks_llm, presets_of, systems

    presets = {name: presets_of(name) for name in systems()}
    return Choices(
        datasets=list(dict.fromkeys([*(artefact.key for artefact in workspace.datasets()), "demo"])),
        systems={name: system.title for name, system in systems().items()},
        presets={name: list(of_system) for name, of_system in presets.items()},
        providers=provider_names(),
        asking=frozenset(
            name for name, of_system in presets.items() if any(asks_llm(s.model) for s in of_system.values())
        ),
    )


def may_spend(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a command may ask an LLM that sends a bill: every preset names `local`, but others may not."""
    provider = environment.get("EDT_LLM_PROVIDER", WITHOUT_BILL[0])
    for before, word in pairwise(["", *arguments]):
        if before == "--config" or word.startswith("--config="):
            return True
        if before == "--provider":
            provider = word
        elif word.startswith(("--provider=", "llm.provider=")):
            provider = word.partition("=")[2]
    return provider not in WITHOUT_BILL


def arguments_of_form(fields: Mapping[str, str], choices: Choices) -> list[str]:
    """Return the arguments of `edt` for what the form holds, without what is the default anyway.

    Raises:
        UserError: If a field holds what no run can be started with.
    """
    system, preset = fields["system"], fields["preset"]
    if not re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", fields["seeds"] or "42"):
        raise UserError("seeds are whole numbers, such as 42,44,46")
    if not DEVICES.fullmatch(fields["device"] or "auto"):
        raise UserError("a device is auto, cpu, cuda, cuda:1 or mps")
    try:
        more = shlex.split(fields["more"])
    except ValueError:
        raise UserError("a quotation mark in the other options is not closed") from None
    try:
        budget = float(fields["budget"]) if fields["budget"] else None
    except ValueError:
        budget = -1.0
    if budget is not None and not 0 <= budget < float("inf"):
        raise UserError("a budget is a number of USD, such as 2.50")
    named = ["--provider", fields["llm"]] if fields["llm"] else []
    # The process asks nobody before it spends: nothing is spent without a limit.
    if system in choices.asking and budget is None and may_spend([*named, *more]):
        raise UserError("an LLM that may send a bill is asked: give a budget in USD, which is never exceeded")
    default = choices.presets.get(system, [""])[0]
    seeds = re.sub(r"\s", "", fields["seeds"])
    return [
        *("train", "--data", fields["data"]),
        *("--model", system),
        *(["--preset", preset] if preset and preset != default else []),
        *(["--seeds", seeds] if seeds else []),
        *(["--device", fields["device"]] if fields["device"] not in ("", "auto") else []),
        *named,
        *(["--max-cost", fields["budget"]] if budget is not None else []),
        *more,
    ]


def fields_of_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Return the fields of a form that holds the arguments of `edt train`; what has no field is among `more`."""
    fields, more = dict[str, str](), list[str]()
    words = iter(arguments[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if name in OPTIONS:
            fields[OPTIONS[name]] = value if equals else next(words, "")
        else:
            more.append(word)
    return {**fields, "more": shlex.join(more)}


class StartForm(ModalScreen["list[str] | None"]):
    """Form of a new run; it ends with the arguments of `edt`, or with None.

    Args:
        workspace: The workspace.
        choices: What there is to choose from.
        arguments: Arguments of `edt train` that it holds at the beginning, [] for an empty form.
    """

    BINDINGS = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("ctrl+s", "start", "Start", show=False),
    ]
    AUTO_FOCUS = "#data"
    DEFAULT_CSS = """
    StartForm { align: center middle; }
    StartForm #form { width: 92; max-width: 96%; height: auto; max-height: 96%; }
    StartForm .field { height: 1; }
    StartForm Label { width: 12; color: $tone-muted; }
    StartForm .field Select, StartForm .field Input { width: 1fr; height: 1; }
    StartForm #told-box { height: auto; max-height: 10; margin: 1 0; }
    StartForm #told { height: auto; }
    StartForm #buttons { height: 1; }
    StartForm Button { margin-right: 2; min-width: 10; }
    """

    def __init__(self, workspace: Workspace, choices: Choices, arguments: Sequence[str]) -> None:
        super().__init__()
        self.workspace, self.choices = workspace, choices
        self.first = {"seeds": "42", **(fields_of_arguments(arguments) if arguments else {})}

    def compose(self) -> ComposeResult:
        c, first = self.choices, self.first
        data = first.get("data") or c.datasets[0]
        system = first.get("system") if first.get("system") in c.systems else next(iter(c.systems))
        assert system is not None
        systems = [(f"{name:<14} {title}", name) for name, title in c.systems.items()]
        with Vertical(id="form", classes="frame") as box:
            box.border_title = "start a run"
            box.border_subtitle = "tab next field, enter chooses, ctrl+s start, esc back"
            datasets = [(name, name) for name in dict.fromkeys([data, *c.datasets])]
            yield from self._field("data", _choice(datasets, data, "data"))
            yield from self._field("system", _choice(systems, system, "system"))
            yield from self._field("preset", _choice(*self._presets(system), "preset"))
            yield from self._field("device", _line("device", first.get("device", "auto"), "auto, cpu, cuda:1"))
            yield from self._field("seeds", _line("seeds", first["seeds"], "42,44,46: a run for each"))
            providers = [("as the preset has it", AS_BEFORE), *((name, name) for name in c.providers)]
            given = first.get("llm", AS_BEFORE)
            providers += [(given, given)] if given not in (AS_BEFORE, *c.providers) else []
            yield from self._field("llm", _choice(providers, given, "llm"))
            yield from self._field("budget", _line("budget", first.get("budget", ""), "USD at most, for an LLM"))
            hint = "other options, such as --set training.lr=3e-4 --epochs 20"
            yield from self._field("more", _line("more", first.get("more", ""), hint))
            with VerticalScroll(id="told-box"):
                yield Static(id="told", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Start", id="start", variant="primary", compact=True)
                yield Button("What it asks and costs", id="count", compact=True)
                yield Button("Copy", id="copy", compact=True)
                yield Button("Back", id="back", compact=True)

    def _field(self, name: str, widget: Select[str] | Input) -> ComposeResult:
        titles = {"llm": "LLM", "more": "more"}
        with Horizontal(classes="field"):
            yield Label(titles.get(name, name))
            yield widget

    def _presets(self, system: str) -> tuple[list[tuple[str, str]], str]:
        """Return the presets to choose from for a system, and the one that is chosen."""
        names = self.choices.presets.get(system, [])
        wanted = self.first.get("preset", "")
        # The preset that the first command named may be a file of the user's own.
        names = list(dict.fromkeys([*names, *([wanted] if wanted and system == self.first.get("system") else [])]))
        chosen = wanted if wanted in names else names[0]
        return [(f"{name}{' (default)' if n == 0 else ''}", name) for n, name in enumerate(names)], chosen

    def on_mount(self) -> None:
        self._tell()

    def fields(self) -> dict[str, str]:
        """Return what the form holds."""
        choices = {str(select.id): "" if select.is_blank() else str(select.value) for select in self.query(Select)}
        return {**choices, **{str(line.id): line.value.strip() for line in self.query(Input)}}

    def on_select_changed(self, event: Select.Changed) -> None:
        if event.select.id == "system":
            presets, chosen = self._presets(str(event.value))
            select = self.query_one("#preset", Select)
            if [value for _, value in presets] != [value for _, value in select._options]:
                select.set_options(presets)
                select.value = chosen
        self._tell()

    def on_input_changed(self) -> None:
        self._tell()

    def on_input_submitted(self) -> None:
        self.focus_next()

    def _arguments(self) -> list[str] | None:
        """Return the arguments for what the form holds, or show what is wrong with it and return None."""
        try:
            return arguments_of_form(self.fields(), self.choices)
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
        words = [sys.executable, "-m", "edt_cli", *arguments, "--dry-run", "--no-ui"]
        if "--workspace" not in arguments:
            words += ["--workspace", self.workspace.address]
        code, out, err = await output_of(words)
        told = (out if code == 0 else err).decode("utf-8", "replace")
        if self.is_attached:
            self._show(Content(paragraph(told.strip() or "nothing was said", 4000)))


def _choice(options: list[tuple[str, str]], value: str, id: str) -> Select[str]:
    return Select(options, value=value, allow_blank=False, compact=True, id=id)


def _line(id: str, value: str, hint: str) -> Input:
    return Input(value, placeholder=hint, compact=True, id=id, select_on_focus=False)
