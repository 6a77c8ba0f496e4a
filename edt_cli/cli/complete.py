"""Values that the shell completes: fast, from files and names alone, and never an error in the middle of a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, get_args

import typer

if TYPE_CHECKING:
    from edt_cli.workspace.layout import Workspace

Values = Callable[[typer.Context, str], Iterable[str]]
Complete = Callable[[typer.Context, str], list[str]]


def _completes(values: Values) -> Complete:
    """Decorate a function of the context and the word so far, so that whatever fails completes nothing."""

    @wraps(values)
    def quiet(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return list(values(ctx, incomplete))
        except Exception:
            return []

    return quiet


@_completes
def models(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from importlib.metadata import entry_points

    from edt_cli.models.systems import BUILT_IN, GROUP

    return [system.name for system in BUILT_IN] + [entry.name for entry in entry_points(group=GROUP)]


@_completes
def presets(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from edt_cli.config import preset_names

    return preset_names()


@_completes
def datasets(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    return dict.fromkeys([*(artefact.key for artefact in _workspace(ctx).datasets()), "demo"])


@_completes
def pairs(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from edt_cli.data.amazon import PAIRS

    return dict.fromkeys([*PAIRS, *datasets(ctx, incomplete)])


@_completes
def runs(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from edt_cli.workspace.annotations import annotations_of
    from edt_cli.workspace.runs import run_folders

    folders = run_folders(_workspace(ctx))
    return [
        *filter(None, (annotations_of(folder).name for folder in folders)),
        *(folder.name for folder in folders),
    ]


@_completes
def tags(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from edt_cli.workspace.annotations import annotations_of
    from edt_cli.workspace.runs import run_folders

    return sorted({tag for folder in run_folders(_workspace(ctx)) for tag in annotations_of(folder).tags})


@_completes
def providers(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from edt_backends.registry import provider_names

    return provider_names()


@_completes
def prompts(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from edt_cli.llm.prompt_set import BY_NAME

    return BY_NAME


@_completes
def settings(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Names of settings and sections; of the options, those of LLM-EDT, as others need torch."""
    from edt_cli.config import Settings, fields_of
    from edt_cli.models.llm_edt_options import LLMEDTOptions

    options = (f"options.{name}" for name in LLMEDTOptions.model_fields)
    return [*(name for name, _ in fields_of(Settings)), *options]


@_completes
def assignments(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """`section.field=`, and after that the values of a closed choice."""
    from edt_cli.config import Settings, fields_of

    name, equals, _ = incomplete.partition("=")
    if not equals:
        return [f"{setting}=" for setting in settings(ctx, incomplete) if "." in setting]
    annotation = dict(fields_of(Settings))[name].annotation
    values = ("true", "false") if annotation is bool else get_args(annotation)
    return [f"{name}={value}" for value in values if isinstance(value, str)]


def _workspace(ctx: typer.Context) -> Workspace:
    from edt_cli.workspace.layout import Workspace

    return Workspace.find(ctx.params.get("workspace_"))
