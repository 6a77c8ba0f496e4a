"""Form of a new run, which shows the command that it will start."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from textual.app import ComposeResult
from textual.widgets import Select

from edt_cli.config import UserError
from edt_cli.ui.command_form import AS_BEFORE, CommandForm, choice, choice_of_llm, line
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


def options_of_llm(fields: Mapping[str, str], *, asks: bool = True) -> list[str]:
    """Return the options for the fields `llm`, `budget` and `more`, where an LLM is asked or not.

    Raises:
        UserError: If a field cannot be read, or an LLM that may send a bill is asked without a budget.
    """
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
    if asks and budget is None and may_spend([*named, *more]):
        raise UserError("an LLM that may send a bill is asked: give a budget in USD, which is never exceeded")
    return [*named, *(["--max-cost", fields["budget"]] if budget is not None else []), *more]


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
    options = options_of_llm(fields, asks=system in choices.asking)
    default = choices.presets.get(system, [""])[0]
    seeds = re.sub(r"\s", "", fields["seeds"])
    return [
        *("train", "--data", fields["data"]),
        *("--model", system),
        *(["--preset", preset] if preset and preset != default else []),
        *(["--seeds", seeds] if seeds else []),
        *(["--device", fields["device"]] if fields["device"] not in ("", "auto") else []),
        *options,
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


class StartForm(CommandForm):
    """Form of a new run.

    Args:
        workspace: The workspace.
        choices: What there is to choose from.
        arguments: Arguments of `edt train` that it holds at the beginning, [] for an empty form.
    """

    AUTO_FOCUS = "#data"
    heading = "start a run"
    quiet = ("--no-ui",)

    def __init__(self, workspace: Workspace, choices: Choices, arguments: Sequence[str]) -> None:
        super().__init__(workspace)
        self.choices = choices
        self.first = {"seeds": "42", **(fields_of_arguments(arguments) if arguments else {})}

    def rows(self) -> ComposeResult:
        c, first = self.choices, self.first
        data = first.get("data") or c.datasets[0]
        system = first.get("system") if first.get("system") in c.systems else next(iter(c.systems))
        assert system is not None
        systems = [(f"{name:<14} {title}", name) for name, title in c.systems.items()]
        datasets = [(name, name) for name in dict.fromkeys([data, *c.datasets])]
        yield from self.field("data", choice(datasets, data, "data"))
        yield from self.field("system", choice(systems, system, "system"))
        yield from self.field("preset", choice(*self._presets(system), "preset"))
        yield from self.field("device", line("device", first.get("device", "auto"), "auto, cpu, cuda:1"))
        yield from self.field("seeds", line("seeds", first["seeds"], "42,44,46: a run for each"))
        yield from self.field("llm", choice_of_llm(c.providers, first.get("llm", AS_BEFORE)))
        yield from self.field("budget", line("budget", first.get("budget", ""), "USD at most, for an LLM"))
        hint = "other options, such as --set training.lr=3e-4 --epochs 20"
        yield from self.field("more", line("more", first.get("more", ""), hint))

    def arguments_of(self, fields: Mapping[str, str]) -> list[str]:
        return arguments_of_form(fields, self.choices)

    def _presets(self, system: str) -> tuple[list[tuple[str, str]], str]:
        """Return the presets to choose from for a system, and the one that is chosen."""
        names = self.choices.presets.get(system, [])
        wanted = self.first.get("preset", "")
        # The preset that the first command named may be a file of the user's own.
        names = list(dict.fromkeys([*names, *([wanted] if wanted and system == self.first.get("system") else [])]))
        chosen = wanted if wanted in names else names[0]
        return [(f"{name}{' (default)' if n == 0 else ''}", name) for n, name in enumerate(names)], chosen

    def on_select_changed(self, event: Select.Changed) -> None:
        if event.select.id == "system":
            presets, chosen = self._presets(str(event.value))
            select = self.query_one("#preset", Select)
            if [value for _, value in presets] != [value for _, value in select._options]:
                select.set_options(presets)
                select.value = chosen
