"""`edt augment` and `edt profile`: the two LLM stages by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli.common import (
    ConfigOption,
    DataOption,
    JsonOption,
    NoUiOption,
    SetOption,
    WorkspaceOption,
    progress,
    settings_from,
    show,
    workspace,
)
from edt_cli.cli.llm import NOT_GIVEN, LLMOptions, as_a_run, ask_before_spending, takes_llm_options

if TYPE_CHECKING:
    from edt_cli.pipeline import Pipeline

TauOption = Annotated[
    str | None, typer.Option("--tau", help="Filter threshold: a cosine, a quantile such as q0.80, or `paper`.")
]


@takes_llm_options
def augment(
    data: DataOption = "demo",
    llm: LLMOptions = NOT_GIVEN,
    tau: TauOption = None,
    direction: Annotated[str | None, typer.Option("--direction", help="minority or both.")] = None,
    ground: Annotated[str | None, typer.Option("--ground", help="pseudo, or match: the nearest real item.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
    no_ui: NoUiOption = False,
) -> None:
    """Generate items for each user's less dominant domain, filter them and insert them (section 3.2).

    Example: edt augment --data food-kitchen --provider ollama --llm-model llama3.1 --limit-users 50
    """
    changes = llm.settings()
    changes["augmentation"] = {"tau": tau, "direction": direction, "ground": ground}
    settings = settings_from("paper", config, set_, **changes, profiling={"enabled": False})
    with progress() as listen:
        pipeline = _pipeline(workspace_, data, settings, listen)
    ask_before_spending(pipeline, llm, as_json=json_)
    with progress() as listen, as_a_run(_heard(pipeline, listen), "augment", "augmentation") as run:
        pipeline = run.retried()
        made = pipeline.augmentation()
    _show_summary(f"augmentation of {data}", pipeline, pipeline.augmentation_key, made.summary, json_)


@takes_llm_options
def profile(
    data: DataOption = "demo",
    llm: LLMOptions = NOT_GIVEN,
    tau: TauOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
    no_ui: NoUiOption = False,
) -> None:
    """Write each user's profile: summarize, reform, analyze (section 3.4). Makes the augmentation if it is missing.

    Example: edt profile --data food-kitchen --provider deepseek
    """
    changes = llm.settings()
    settings = settings_from("paper", config, set_, **changes, augmentation={"tau": tau})
    with progress() as listen:
        pipeline = _pipeline(workspace_, data, settings, listen)
    ask_before_spending(pipeline, llm, as_json=json_)
    with progress() as listen, as_a_run(_heard(pipeline, listen), "profile", "profiles") as run:
        pipeline = run.retried()
        made = pipeline.profiles()
    _show_summary(f"profiles of {data}", pipeline, pipeline.profiles_key, made.summary, json_)


def _pipeline(place: Any, data: str, settings: Any, listen: Any) -> Pipeline:
    from edt_cli.events import Events
    from edt_cli.pipeline import Pipeline, open_dataset
    from edt_cli.providers import Providers

    root = workspace(place)
    providers = Providers(root, settings)
    providers.check()
    return Pipeline(root, open_dataset(root, data), settings, Events(listeners=(listen,)), shared=providers)


def _heard(pipeline: Pipeline, listen: Any) -> Pipeline:
    from edt_cli.events import Events

    return replace(pipeline, events=Events(listeners=(listen,)), shared=pipeline.providers)


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
