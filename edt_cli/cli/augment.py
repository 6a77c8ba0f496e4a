"""`edt augment` and `edt profile`: the two LLM stages by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli.common import (
    ApiBaseOption,
    ConfigOption,
    DataOption,
    EmbedderOption,
    JsonOption,
    LimitUsersOption,
    LlmModelOption,
    NoUiOption,
    ProviderOption,
    SetOption,
    WorkspaceOption,
    YesOption,
    ask_before_spending,
    llm_flags,
    progress,
    settings_from,
    show,
    workspace,
)
from edt_cli.cli.watch import stopping, viewed, watch

if TYPE_CHECKING:
    from edt_cli.events import Events
    from edt_cli.pipeline import Pipeline

TauOption = Annotated[
    str | None, typer.Option("--tau", help="Filter threshold: a cosine, a quantile such as q0.80, or `paper`.")
]


def augment(
    data: DataOption = "demo",
    provider: ProviderOption = None,
    llm_model: LlmModelOption = None,
    api_base: ApiBaseOption = None,
    embedder: EmbedderOption = None,
    limit_users: LimitUsersOption = None,
    tau: TauOption = None,
    direction: Annotated[str | None, typer.Option("--direction", help="minority or both.")] = None,
    ground: Annotated[str | None, typer.Option("--ground", help="pseudo, or match: the nearest real item.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
    yes: YesOption = False,
    no_ui: NoUiOption = False,
) -> None:
    """Generate items for each user's less dominant domain, filter them and insert them (section 3.2).

    Example: edt augment --data food-kitchen --provider ollama --llm-model llama3.1 --limit-users 50
    """
    from edt_cli.events import Events
    from edt_cli.jobs import at_work

    changes = llm_flags(provider, llm_model, api_base, embedder, limit_users)
    changes["augmentation"] = {"tau": tau, "direction": direction, "ground": ground}
    settings = settings_from("paper", config, set_, **changes, profiling={"enabled": False})
    if viewed(no_ui, json_):
        if settings.llm.provider != "local":
            ask_before_spending(_pipeline(workspace_, data, settings, Events()), yes)
        watch(workspace(workspace_), "augment", data)
    with stopping(), at_work(workspace(workspace_), "augment", data) as events:
        pipeline = _pipeline(workspace_, data, settings, events)
        ask_before_spending(pipeline, yes)
        with progress() as listen:
            events.listeners = (listen,)
            made = pipeline.augmentation()
    _show_summary(f"augmentation of {data}", pipeline, pipeline.augmentation_key, made.summary, json_)


def profile(
    data: DataOption = "demo",
    provider: ProviderOption = None,
    llm_model: LlmModelOption = None,
    api_base: ApiBaseOption = None,
    embedder: EmbedderOption = None,
    limit_users: LimitUsersOption = None,
    tau: TauOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
    yes: YesOption = False,
    no_ui: NoUiOption = False,
) -> None:
    """Write each user's profile: summarize, reform, analyze (section 3.4). Makes the augmentation if it is missing.

    Example: edt profile --data food-kitchen --provider deepseek
    """
    from edt_cli.events import Events
    from edt_cli.jobs import at_work

    changes = llm_flags(provider, llm_model, api_base, embedder, limit_users)
    settings = settings_from("paper", config, set_, **changes, augmentation={"tau": tau})
    if viewed(no_ui, json_):
        if settings.llm.provider != "local":
            ask_before_spending(_pipeline(workspace_, data, settings, Events()), yes)
        watch(workspace(workspace_), "profile", data)
    with stopping(), at_work(workspace(workspace_), "profile", data) as events:
        pipeline = _pipeline(workspace_, data, settings, events)
        ask_before_spending(pipeline, yes)
        with progress() as listen:
            events.listeners = (listen,)
            made = pipeline.profiles()
    _show_summary(f"profiles of {data}", pipeline, pipeline.profiles_key, made.summary, json_)


def _pipeline(place: Any, data: str, settings: Any, events: Events) -> Pipeline:
    from edt_cli.pipeline import Pipeline, open_dataset

    root = workspace(place)
    with progress() as listen:
        events.listeners = (listen,)
        return Pipeline(root, open_dataset(root, data), settings, events)


def _show_summary(title: str, pipeline: Pipeline, key: str, summary: dict[str, Any], as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    llm = pipeline.chat_identity["name"]
    table = Table(title=Text(f"{title}, by {llm}"), title_justify="left", show_header=False)
    for name, value in summary.items():
        shown = (
            f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        )
        table.add_row(name.replace("_", " "), Text(plain(shown)))
    show({"key": key, "llm": llm, **summary}, [table], as_json=as_json)
