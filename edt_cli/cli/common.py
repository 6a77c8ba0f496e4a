"""What all commands share: options, output, progress. Imports nothing heavy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from edt_cli.config import Settings
    from edt_cli.pipeline import Pipeline
    from edt_cli.workspace import Workspace

WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", help="Folder of data, runs and replies. [env: EDT_WORKSPACE]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, all else on stderr.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, neither before spending nor removing.")]
NoUiOption = Annotated[bool, typer.Option("--no-ui", help="Plain progress, no live view.")]
DataOption = Annotated[str, typer.Option("--data", "-d", help="A prepared dataset; `demo` makes itself.")]
ProviderOption = Annotated[
    str | None,
    typer.Option("--provider", help="local (no LLM), deepseek, gpt-3.5, ollama or any litellm name."),
]
LlmModelOption = Annotated[str | None, typer.Option("--llm-model", help="The provider's model.")]
ApiBaseOption = Annotated[str | None, typer.Option("--api-base", help="A server of your own.")]
EmbedderOption = Annotated[
    str | None, typer.Option("--embedder", help="local, or a litellm name such as openai/text-embedding-3-small.")
]
LimitUsersOption = Annotated[
    int | None, typer.Option("--limit-users", min=1, help="Only a seeded sample of those who would be asked.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings as TOML.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:N, or auto: a GPU where there is one.")
]
RunOption = Annotated[
    list[str] | None,
    typer.Option("--run", "-r", help="A run's name, or how it begins; repeatable. Default: the finished ones."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any setting; repeatable.")
]


def settings_from(
    preset: str, config: Path | None, assignments: list[str] | None, **flags: dict[str, Any]
) -> Settings:
    """Settings by precedence; flags that were not given are None and count for nothing."""
    from edt_cli.config import load_settings, parse_assignments

    values = parse_assignments(assignments or [])
    for section, fields in flags.items():
        given = {name: value for name, value in fields.items() if value is not None}
        values[section] = {**values.get(section, {}), **given}
    return load_settings(preset, config=config, flags=values)


def llm_flags(
    provider: str | None, model: str | None, api_base: str | None, embedder: str | None, limit_users: int | None
) -> dict[str, dict[str, Any]]:
    """The provider flags that augment, profile and train share, as settings."""
    return {
        "llm": {"provider": provider, "model": model, "api_base": api_base, "limit_users": limit_users},
        "embedding": {"embedder": embedder},
    }


def ask_before_spending(pipeline: Pipeline, yes: bool) -> None:
    """Show what a paid provider would be asked and what that may cost, and ask. Errors: UsageError off a terminal
    without --yes; typer.Abort for a no."""
    from edt_cli.config import UsageError

    estimates = pipeline.estimates()
    new = sum(estimate.calls - estimate.cached for estimate in estimates)
    if not new:
        return
    known = [estimate.cost_usd for estimate in estimates if estimate.cost_usd is not None]
    cost = f"about {sum(known):.4f} USD" if len(known) == len(estimates) else "at a price that is not known"
    for estimate in estimates:
        note(f"{estimate.stage}: {estimate.calls:,} calls, {estimate.cached:,} answered by the cache")
    note(f"{pipeline.chat.name}: {new:,} new calls, {cost}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this asks a paid provider: say --yes to go on without a question")
    typer.confirm("Go on?", abort=True, err=True)


def workspace(given: Path | None) -> Workspace:
    from edt_cli.workspace import Workspace

    return Workspace.find(given)


def stdout() -> Console:
    """Where results go. Catalogue text must come as rich.text.Text or escaped."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """Where everything else goes: progress, notes, errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(message: str) -> None:
    """One plain line on stderr, without markup."""
    stderr().print(message, markup=False, soft_wrap=True)


def emit_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def show(document: Any, renderables: list[RenderableType], *, as_json: bool) -> None:
    """A result, once: as one JSON document or as what a person reads."""
    if as_json:
        emit_json(document)
        return
    console = stdout()
    for renderable in renderables:
        console.print(renderable)


@contextmanager
def progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A listener for `Events`: a progress bar on a terminal, plain lines off it."""
    console = stderr()
    if not console.is_terminal:
        yield lambda record: _plain_line(console, record)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def listen(record: dict[str, Any]) -> None:
            if record["event"] != "progress":
                _plain_line(console, record)
                return
            stage = record["stage"]
            if stage not in tasks:
                for task in tasks.values():
                    bars.remove_task(task)
                tasks.clear()
                tasks[stage] = bars.add_task(stage, total=record["total"])
            bars.update(tasks[stage], completed=record["done"], total=record["total"])

        yield listen


def _plain_line(console: Console, record: dict[str, Any]) -> None:
    if "message" in record:
        console.print(record["message"], markup=False, soft_wrap=True)
