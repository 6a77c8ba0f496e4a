"""`edt augment` and `edt profile`: the two LLM stages by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli.common import (
    LLM,
    ConfigOption,
    DataOption,
    JsonOption,
    NoUiOption,
    PresetOption,
    SetOption,
    WorkspaceOption,
    choice,
    open_workspace,
    progress,
    settings_from,
    show,
    stderr,
    with_profiles,
)
from edt_cli.cli.llm import NOT_GIVEN, LLMOptions, ask_before_spending, takes_llm_options
from edt_cli.cli.watch import stopping, viewed, watch
from edt_cli.config import Direction, Ground

if TYPE_CHECKING:
    from edt_cli.config import Settings
    from edt_cli.llm.shards import Shard
    from edt_cli.pipeline import Pipeline
    from edt_cli.pipeline.keys import LLMStage
    from edt_cli.workspace.events import Events
    from edt_cli.workspace.layout import Workspace

TauOption = Annotated[
    str | None, typer.Option("--tau", help="Filter threshold: a cosine, a quantile such as q0.80, or `paper`.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="N/OF",
        help="Ask about this share of the users alone, and make nothing of it.",
        rich_help_panel=LLM,
    ),
]


@takes_llm_options
def augment(
    data: DataOption = "demo",
    llm: LLMOptions = NOT_GIVEN,
    shard: ShardOption = None,
    tau: TauOption = None,
    direction: Annotated[
        Direction | None, choice("--direction", of=Direction, help="Domains to generate items of.")
    ] = None,
    ground: Annotated[
        Ground | None, choice("--ground", of=Ground, help="What to insert; match: the nearest real item.")
    ] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
    no_ui: NoUiOption = False,
) -> None:
    """Generate items for each user's less dominant domain, filter them and insert them (section 3.2).

    With `--shard` the replies are kept alone; after all shards, the command without it asks nobody and merges.

    Examples:
        edt augment --data demo
        edt augment --data mine --provider deepseek --dry-run
        edt augment --data mine --provider deepseek --shard 3/8 --max-cost 5
    """
    from edt_cli.config import preset_name
    from edt_cli.models.systems import OURS, system
    from edt_cli.paper.ablations import ABLATED

    changes = llm.settings()
    changes["augmentation"] = {"tau": tau, "direction": direction, "ground": ground}
    chosen = preset or system(OURS).preset
    stage = {"augmentation": {"enabled": True}}
    settings = settings_from(chosen, config, set_, stage, **changes, profiling={"enabled": False})
    workspace = open_workspace(workspace_)
    if shard is not None:
        _ask_shard("augmentation", shard, workspace, data, settings, llm, no_ui=no_ui, json_=json_)
        return
    with _at_work("augment", workspace, data, settings, llm, no_ui=no_ui, json_=json_) as pipeline:
        made = pipeline.augmentation()
    _show_summary(f"augmentation of {data}", pipeline, pipeline.augmentation_key, made.summary, json_)
    if not settings_from(chosen, config, set_).augmentation.enabled:
        stderr().print(f"{preset_name(chosen)} trains without it; edt train --preset {ABLATED} reads it")


@takes_llm_options
def profile(
    data: DataOption = "demo",
    llm: LLMOptions = NOT_GIVEN,
    shard: ShardOption = None,
    tau: TauOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
    no_ui: NoUiOption = False,
) -> None:
    """Write each user's profile: summarize, reform, analyze (section 3.4).

    Makes the augmentation first, if the preset has one. `--shard 0/8` asks what the users of all shards share.

    Examples:
        edt profile --data demo
        edt profile --data mine --provider deepseek --max-cost 5
        edt profile --data mine --provider openai/gpt-4o-mini --dry-run --json
    """
    from edt_cli.models.systems import OURS, system

    changes = llm.settings()
    chosen = preset or system(OURS).preset
    settings = settings_from(chosen, config, set_, with_profiles(chosen), **changes, augmentation={"tau": tau})
    workspace = open_workspace(workspace_)
    if shard is not None:
        _ask_shard("profiles", shard, workspace, data, settings, llm, no_ui=no_ui, json_=json_)
        return
    with _at_work("profile", workspace, data, settings, llm, no_ui=no_ui, json_=json_) as pipeline:
        made = pipeline.profiles()
    _show_summary(f"profiles of {data}", pipeline, pipeline.profiles_key, made.summary, json_)


def _ask_shard(
    kind: LLMStage,
    text: str,
    workspace: Workspace,
    data: str,
    settings: Settings,
    llm: LLMOptions,
    *,
    no_ui: bool,
    json_: bool,
) -> None:
    """Ask the questions of a stage about the users of a shard, and show what came of it."""
    from edt_cli.llm.shards import Shard
    from edt_cli.pipeline.sharded import ask_shard, with_budget
    from edt_cli.reporting.stage_summary import shard_lines

    command, shard = COMMANDS[kind], Shard.parse(text)
    settings = with_budget(settings, command, data, shard)
    with _at_work(command, workspace, data, settings, llm, (kind, shard), no_ui=no_ui, json_=json_) as pipeline:
        asked = ask_shard(pipeline, kind, shard)
    llm_name = pipeline.chat_identity["name"]
    _show_lines(f"shard {text} of {data}, by {llm_name}", shard_lines(asked), {"llm": llm_name, **asked}, json_)
    stderr().print(
        f"after all shards, `edt {command}` with the same options but --shard finds all replies and merges"
    )


COMMANDS: dict[LLMStage, str] = {"augmentation": "augment", "profiles": "profile"}


@contextmanager
def _at_work(
    command: str,
    workspace: Workspace,
    data: str,
    settings: Settings,
    llm: LLMOptions,
    part: tuple[LLMStage, Shard] | None = None,
    *,
    no_ui: bool,
    json_: bool,
) -> Iterator[Pipeline]:
    """Yield the pipeline, after the question before money is spent.

    On a terminal the work goes to a process of its own, and a view of it opens. Of a part, only the questions about
    its users count.
    """
    from edt_cli.workspace.events import Events
    from edt_cli.workspace.jobs import at_work

    if llm.dry_run or viewed(no_ui, json_):
        _ask_first(_pipeline(workspace, data, settings, Events(), llm), llm, part, json_)
        watch(workspace, command, data)
    with stopping(), at_work(workspace, command, data) as events:
        pipeline = _pipeline(workspace, data, settings, events, llm)
        _ask_first(pipeline, llm, part, json_)
        with progress() as listen:
            events.listeners = (listen,)
            yield pipeline if part is not None else pipeline.retried()


def _ask_first(pipeline: Pipeline, llm: LLMOptions, part: tuple[LLMStage, Shard] | None, as_json: bool) -> None:
    from edt_cli.pipeline.sharded import check_shard

    if part is not None:
        check_shard(pipeline, *part)
    ask_before_spending(pipeline, llm, as_json=as_json, shard=None if part is None else part[1])


def _pipeline(workspace: Workspace, data: str, settings: Settings, events: Events, llm: LLMOptions) -> Pipeline:
    from edt_cli.data.open import open_dataset
    from edt_cli.llm.providers import Providers
    from edt_cli.pipeline import Pipeline

    providers = Providers(workspace, settings, retry_failed=llm.retry_failed, dry=llm.dry_run)
    providers.check()
    with progress() as listen:
        events.listeners = (listen,)
        return Pipeline(
            workspace=workspace,
            dataset=open_dataset(workspace, data),
            settings=settings,
            events=events,
            shared=providers,
        )


def _show_summary(title: str, pipeline: Pipeline, key: str, summary: dict[str, Any], as_json: bool) -> None:
    from edt_cli.reporting.stage_summary import summary_lines

    llm = pipeline.chat_identity["name"]
    _show_lines(f"{title}, by {llm}", summary_lines(summary), {"key": key, "llm": llm, **summary}, as_json)


def _show_lines(title: str, lines: list[tuple[str, str]], document: dict[str, Any], as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    table = Table(title=Text(plain(title)), title_justify="left", show_header=False, box=None)
    for name, line in lines:
        table.add_row(Text(plain(name)), Text(plain(line)))
    show(document, [table], as_json=as_json)
