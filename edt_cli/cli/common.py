"""Options, output and progress of all commands. Imports nothing heavy."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from edt_cli.cli import complete
from edt_cli.config import alternatives

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from edt_cli.config import Settings
    from edt_cli.workspace.events import Events
    from edt_cli.workspace.layout import Workspace

LINE_SECONDS = 10.0
DATA, MODEL, TRAINING, LLM, BUDGET, OUTPUT = "Data", "Model", "Training", "LLM", "Budget", "Output"
CLUSTER = "Cluster"
"""Panels of a command's help."""


def choice(*names: str, of: Any, help: str, panel: str | None = None) -> Any:
    """Return an option that takes one of a few values, and shows, refuses and completes by them.

    Typer takes a Literal itself since 0.19 only.

    Args:
        *names: Names of the option.
        of: The values: a Literal, or a collection of strings.
        help: What it does.
        panel: Panel of the command's help.
    """
    values: tuple[str, ...] = get_args(of) or tuple(of)

    def parse(text: str) -> str:
        if text not in values:
            raise typer.BadParameter(f"{text!r} is none of them; {alternatives(text, values)}")
        return text

    return typer.Option(
        *names,
        parser=parse,
        metavar=f"[{'|'.join(values)}]",
        autocompletion=lambda: list(values),
        help=help,
        rich_help_panel=panel,
    )


WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace", help="Folder of data, runs and replies. \\[env: EDT_WORKSPACE]", rich_help_panel=OUTPUT
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, all else on stderr.", rich_help_panel=OUTPUT)
]
YesOption = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do not ask, neither before spending nor removing.", rich_help_panel=BUDGET),
]
NoUiOption = Annotated[bool, typer.Option("--no-ui", help="Plain progress, no live view.", rich_help_panel=OUTPUT)]
DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        "-d",
        help="A prepared dataset; `demo` makes itself.",
        rich_help_panel=DATA,
        autocompletion=complete.datasets,
    ),
]
ProviderOption = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="local (no LLM), deepseek, gpt-3.5, ollama or any litellm name.",
        rich_help_panel=LLM,
        autocompletion=complete.providers,
    ),
]
LlmModelOption = Annotated[
    str | None, typer.Option("--llm-model", help="The provider's model.", rich_help_panel=LLM)
]
ApiBaseOption = Annotated[str | None, typer.Option("--api-base", help="A server of your own.", rich_help_panel=LLM)]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder", help="local, or a litellm name such as openai/text-embedding-3-small.", rich_help_panel=LLM
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts", metavar="DIR", help="Your own prompts; `edt prompts` lists them.", rich_help_panel=LLM
    ),
]
LimitUsersOption = Annotated[
    int | None,
    typer.Option(
        "--limit-users", min=1, help="Only a seeded sample of those who would be asked.", rich_help_panel=BUDGET
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings as TOML.", rich_help_panel=MODEL)]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Settings by name. Default: those of `edt train` for llm-edt.",
        rich_help_panel=MODEL,
        autocompletion=complete.presets,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", help="cpu, cuda, cuda:N, mps, or auto: a GPU where there is one."),
]
QuickOption = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="A smoke run: one epoch a phase on a small sample, kept as NAME-quick and left out of reports.",
        rich_help_panel=TRAINING,
    ),
]
RunOption = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        "-r",
        help="A run's id or name, or how its id begins; repeatable. Default: the finished ones.",
        autocompletion=complete.runs,
    ),
]
RunToUseOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        "-r",
        help="Default: the newest final run, else the newest trained one.",
        autocompletion=complete.runs,
    ),
]
NewItemsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--new-items",
        metavar="[DOMAIN=]FILE",
        help="Items that came after training, with their texts, as --items of data prepare; repeatable.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Any setting; `edt settings` lists them; repeatable.",
        rich_help_panel=MODEL,
        autocompletion=complete.assignments,
    ),
]


def settings_from(
    preset: str | Path,
    config: Path | None,
    assignments: list[str] | None,
    over: dict[str, dict[str, Any]] | None = None,
    **flags: dict[str, Any],
) -> Settings:
    """Load settings by precedence. A flag that is None was not given; `over` replaces values of the preset."""
    from edt_cli.config import load_settings, parse_assignments

    values = parse_assignments(assignments or [])
    for section, fields in flags.items():
        given = {name: value for name, value in fields.items() if value is not None}
        values[section] = {**values.get(section, {}), **given}
    return load_settings(preset, config=config, flags=values, over=over)


def seeds_of(text: str) -> list[int]:
    from edt_cli.config import UsageError

    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers, such as 42,44,46; got {text!r}") from None


def with_profiles(preset: str | Path) -> dict[str, dict[str, Any]]:
    """Return what switches both LLM stages on in a preset without profiles.

    No run of such a preset would read either stage, so that neither was chosen for it.
    """
    from edt_cli.config import load_settings

    if load_settings(preset, environment={}).profiling.enabled:
        return {}
    return {"augmentation": {"enabled": True}, "profiling": {"enabled": True}}


def open_workspace(given: Path | None) -> Workspace:
    """Return the workspace of a command; of one in object storage, the mirror, with all that is finished there."""
    from edt_cli.workspace.layout import Workspace

    workspace = Workspace.find(given)
    if workspace.url is not None:
        from edt_cli.workspace.remote import pull

        pull(workspace)
        _mirrored.append(workspace)
    return workspace


_mirrored: list[Workspace] = []
"""Workspaces in object storage that the command has opened."""


def push_opened() -> None:
    """Bring what the command has finished to the object storage of the workspaces that it opened."""
    while _mirrored:
        from edt_cli.workspace.remote import push

        push(_mirrored.pop())


def stdout() -> Console:
    """Return the console for results. Catalogue text must come as rich.text.Text or escaped."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """Return the console for progress, notes and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@dataclass
class Said:
    """What this process has printed so far: whether a document, and the last line for people."""

    document: bool = False
    note: str = ""


SAID = Said()


def note(message: str) -> None:
    """Print one plain line on stderr, without markup or codes that a terminal obeys."""
    from edt_cli.reporting.text import harmless

    SAID.note = message
    stderr().print(harmless(message), markup=False, soft_wrap=True)


def emit_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    SAID.document = True
    whole = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(document, indent=1, ensure_ascii=not whole, allow_nan=False)
    # JSON itself escapes control characters below 0x20 only; an LLM's reply may hold any.
    sys.stdout.write(re.sub("[\x7f-\x9f\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def show(document: Any, renderables: list[RenderableType], *, as_json: bool) -> None:
    """Print a result: one JSON document, or renderables for people."""
    if as_json:
        emit_json(document)
        return
    console = stdout()
    for renderable in renderables:
        console.print(renderable)


@contextmanager
def progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a listener for `Events`: a progress bar on a terminal, plain lines elsewhere."""
    console = stderr()
    if not console.is_terminal:
        yield _PlainLines(console)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[calls]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def listen(record: dict[str, Any]) -> None:
            if record["event"] != "progress":
                _message(console, record)
                return
            stage = record["stage"]
            if stage not in tasks:
                for task in tasks.values():
                    bars.remove_task(task)
                tasks.clear()
                tasks[stage] = bars.add_task(stage, total=record["total"], calls="")
            calls = calls_line(record) if "calls" in record else ""
            bars.update(tasks[stage], completed=record["done"], total=record["total"], calls=calls)

        yield listen


def progress_alone(listen: Callable[[dict[str, Any]], None], *kinds: str) -> Events:
    """Return events that pass on progress and those of `kinds` to a listener, and nothing else."""
    from edt_cli.workspace.events import Events

    heard = ("progress", *kinds)
    return Events(listeners=(lambda record: listen(record) if record["event"] in heard else None,))


class _PlainLines:
    """Messages as they come; for stages that call an LLM or embed, also a line every ten seconds and at the end."""

    def __init__(self, console: Console) -> None:
        self._console, self._reported_at = console, time.monotonic()

    def __call__(self, record: dict[str, Any]) -> None:
        _message(self._console, record)
        embeds = record["event"] == "progress" and "calls" not in record and "seconds_left" in record
        if not (embeds or record["event"] == "calls") or not record["total"]:
            return
        left = record["total"] - record["done"]
        if left and time.monotonic() - self._reported_at < LINE_SECONDS:
            return
        self._reported_at = time.monotonic()
        line = f"{record['stage']}: {record['done']:,}/{record['total']:,}"
        line += "" if embeds else f"; {calls_line(record)}"
        if left and record["seconds_left"] is not None:
            line += f"; {record['seconds_left'] / 60:.1f} min left"
        self._console.print(line, markup=False, soft_wrap=True)


def calls_line(record: dict[str, Any]) -> str:
    """Format the fields of a `calls` event as one line."""
    parts = [f"{record['new']:,} calls, {record['calls_per_s']:g}/s", f"{record['hits']:,} from the cache"]
    tokens = record["prompt_tokens"] + record["completion_tokens"]
    parts += [f"{tokens:,} tokens"] if tokens else []
    if "spent_usd" in record:
        limit = "" if record["limit_usd"] is None else f" of {record['limit_usd']:g}"
        parts.append(f"{record['spent_usd']:.4f}{limit} USD")
    parts += [f"{record[name]:,} {name}" for name in ("retries", "repairs") if record.get(name)]
    if record["failed"]:
        parts.append("failed: " + ", ".join(f"{count:,} {reason}" for reason, count in record["failed"].items()))
    if record.get("held_s"):
        parts.append(f"waiting {record['held_s']:.0f} s for the provider")
    elif record.get("batches"):
        jobs = "a batch job" if record["batches"] == 1 else f"{record['batches']} batch jobs"
        parts.append(f"{record['batch_done']:,} of {record['in_flight']:,} in {jobs}")
    elif record.get("in_flight"):
        parts.append(f"{record['in_flight']} under way")
    if record.get("error"):
        parts.append(f"newest error: {record['error']}")
    return "; ".join(parts)


def _message(console: Console, record: dict[str, Any]) -> None:
    if "message" in record:
        from edt_cli.reporting.text import harmless

        console.print(harmless(record["message"]), markup=False, soft_wrap=True)
