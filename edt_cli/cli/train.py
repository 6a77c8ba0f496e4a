"""`edt train`: from a dataset to a table of HR@10 and NDCG@10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edt_cli.cli.common import (
    MODEL,
    TRAINING,
    ConfigOption,
    DataOption,
    DeviceOption,
    JsonOption,
    NoUiOption,
    SetOption,
    WorkspaceOption,
    note,
    open_workspace,
    progress,
    settings_from,
)
from edt_cli.cli.eval import show_results
from edt_cli.cli.llm import NOT_GIVEN, LLMOptions, ask_before_spending, takes_llm_options
from edt_cli.cli.watch import stopping, viewed, watch

if TYPE_CHECKING:
    from edt_cli.pipeline import Pipeline
    from edt_cli.workspace.events import Events


@takes_llm_options
def train(
    data: DataOption = "demo",
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A system; `edt models` lists them. Default: llm-edt.", rich_help_panel=MODEL
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="Settings by name; `edt models NAME` lists a system's.", rich_help_panel=MODEL
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", help="Seeds of the runs, such as 42,44,46. Default: 42.", rich_help_panel=TRAINING),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            "--ablate",
            help="A row of table 3: aug, filtering, inserting, random-inserting, dft, profiling, sra; repeatable. "
            "Without --preset it is taken out of llm-edt-ce.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    match_paper: Annotated[
        bool,
        typer.Option(
            "--match-paper",
            help="Hidden size 128 and batch 512 over any preset, as the paper compares.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    device: DeviceOption = "auto",
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Items by llm, id or both.", rich_help_panel=MODEL)
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="sasrec, gru4rec or bert4rec.", rich_help_panel=MODEL)
    ] = None,
    sequence: Annotated[
        str | None, typer.Option("--sequence", help="mixed, or single: one domain's items.", rich_help_panel=MODEL)
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option("--loss", help="bpr, bce, ce (sampled softmax), top1 or bpr-max.", rich_help_panel=TRAINING),
    ] = None,
    negatives: Annotated[
        int | None, typer.Option("--negatives", min=1, help="Negatives of the loss.", rich_help_panel=TRAINING)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="At most, of each phase without its own.", rich_help_panel=TRAINING),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Users a step.", rich_help_panel=TRAINING)
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Learning rate of each phase without its own.", rich_help_panel=TRAINING),
    ] = None,
    llm: LLMOptions = NOT_GIVEN,
    final: Annotated[
        bool,
        typer.Option(
            "--final", help="Train on every interaction, for use: nothing is held out.", rich_help_panel=TRAINING
        ),
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Train once more, on the validation items as well, as long as was best, and test that.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
    no_ui: NoUiOption = False,
) -> None:
    """Train a system, after making whatever it needs, and show how it ranks the held-out items.

    Example: edt train --data food-kitchen --model sasrec --seeds 42,44,46
    """
    from edt_cli.config import UsageError, model_named, preset_name
    from edt_cli.inference.labels import is_ablated
    from edt_cli.models.systems import OURS, asks_llm, checked, system
    from edt_cli.paper.ablations import ABLATED, ABLATIONS, MATCH_PAPER
    from edt_cli.workspace.events import Events
    from edt_cli.workspace.jobs import at_work

    named = model_named(config, set_ or [])
    if model and named and model != named:
        raise UsageError(f"--model {model}, and model.name = {named} in other settings: leave one of them out")
    model = model or named or OURS
    train_on: Literal["all", "train+valid"] | None = "all" if final else "train+valid" if refit else None
    changes: dict[str, dict[str, Any]] = llm.settings()
    changes["model"] = {"name": model, "encoder": encoder, "backbone": backbone, "sequence": sequence}
    changes["training"] = {
        "loss": loss,
        "negatives": negatives,
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "train_on": train_on,
    }
    for name in ablate or []:
        if name not in ABLATIONS:
            raise UsageError(f"unknown ablation {name!r}; there are: {', '.join(ABLATIONS)}")
    if final and refit:
        raise UsageError("--final holds out nothing, --refit holds out the test set: take one of them")
    if ablate and model != OURS:
        raise UsageError("--ablate takes parts out of llm-edt; it goes with --model llm-edt")
    if match_paper and (batch or any(one.startswith(("model.hidden=", "training.batch=")) for one in set_ or [])):
        raise UsageError("--match-paper sets model.hidden and training.batch; leave them to it")
    for section, fields in MATCH_PAPER.items() if match_paper else ():
        changes[section] |= fields
    chosen = preset or (ABLATED if ablate else system(model).preset)
    name_of_preset = preset_name(chosen)
    settings = settings_from(chosen, config, set_, **changes)
    for name in dict.fromkeys(ablate or []):
        if is_ablated(settings, name):
            already = f"the settings of {name_of_preset} are {ABLATIONS[name][0]} already"
            raise UsageError(f"--ablate {name} changes nothing: {already}")
        settings = settings.changed(**ABLATIONS[name][1])
    settings = checked(settings)
    final = settings.training.train_on == "all"

    from edt_cli.data.open import open_dataset
    from edt_cli.llm.providers import Providers
    from edt_cli.pipeline import Pipeline
    from edt_cli.training.device import open_device

    workspace = open_workspace(workspace_)
    numbers = [settings.training.seed] if seeds is None else _seeds(seeds)
    asks = asks_llm(settings.model)

    def pipelines(events: Events, device: str) -> list[Pipeline]:
        providers = Providers(workspace, settings, device)
        if asks:
            providers.check()
        with progress() as listen:
            events.listeners = (listen,)
            dataset = open_dataset(workspace, data)
        each = [settings.changed(training={"seed": seed}) for seed in numbers]
        return [
            Pipeline(
                workspace=workspace,
                dataset=dataset,
                settings=one,
                events=events,
                device=device,
                shared=providers,
                preset=name_of_preset,
            )
            for one in each
        ]

    if llm.dry_run or viewed(no_ui, json_):
        if asks or llm.dry_run:
            ask_before_spending(pipelines(Events(), "cpu")[0], llm, as_json=json_)
        watch(workspace, "train", data)
    chosen = str(open_device(device))
    runs = []
    with stopping(), at_work(workspace, "train", data, model=model, seeds=numbers, final=final) as events:
        made = pipelines(events, chosen)
        if asks:
            ask_before_spending(made[0], llm, as_json=json_)
        with progress() as listen:
            events.listeners = (listen,)
            for number, pipeline in enumerate(made):
                if asks and number == 0:
                    pipeline = pipeline.retried()  # which the others find done
                runs.append(pipeline.run((listen,)))
        if not final:
            show_results(workspace, runs, "test", settings.evaluation, chosen, as_json=json_)
            return
    for run in runs:
        note(f"{run.name} is trained on everything; use it with: edt recommend --run {run.name} --user NAME")
    if json_:
        from edt_cli.cli.common import emit_json

        emit_json(
            {"data": data, "runs": [{"run": run.name, "preset": name_of_preset, "final": True} for run in runs]}
        )


def _seeds(text: str) -> list[int]:
    from edt_cli.config import UsageError

    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers, such as 42,44,46; got {text!r}") from None
