"""`edt train`: from a dataset to a table of HR@10 and NDCG@10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import (
    MODEL,
    TRAINING,
    ConfigOption,
    DataOption,
    DeviceOption,
    JsonOption,
    NoUiOption,
    QuickOption,
    SetOption,
    WorkspaceOption,
    choice,
    emit_json,
    note,
    open_workspace,
    progress,
    seeds_of,
    settings_from,
)
from edt_cli.cli.eval import CutoffsOption, show_results
from edt_cli.cli.llm import NOT_GIVEN, LLMOptions, ask_before_spending, takes_llm_options
from edt_cli.cli.watch import stopping, viewed, watch
from edt_cli.config import Backbone, Encoder, Loss, SequenceKind
from edt_cli.paper.ablations import ABLATIONS

if TYPE_CHECKING:
    from edt_cli.config import Settings
    from edt_cli.pipeline import Pipeline
    from edt_cli.workspace.events import Events
    from edt_cli.workspace.layout import Workspace
    from edt_cli.workspace.runs import Run


@takes_llm_options
def train(
    data: DataOption = "demo",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A system; `edt models` lists them. Default: llm-edt.",
            rich_help_panel=MODEL,
            autocompletion=complete.models,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Settings by name; `edt models NAME` lists a system's.",
            rich_help_panel=MODEL,
            autocompletion=complete.presets,
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
        choice(
            "--ablate",
            of=ABLATIONS,
            help="A row of table 3; repeatable. Without --preset it is taken out of llm-edt-ce.",
            panel=MODEL,
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
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices",
            min=1,
            help="Processes that train together: a GPU each, or all on the CPU. Default: 1, or those of torchrun.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    shard_items: Annotated[
        bool,
        typer.Option(
            "--shard-items",
            help="Share out the rows of the id table to the processes, where it is too large for one device.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the backbones by torch.compile; on CUDA.", rich_help_panel=TRAINING
        ),
    ] = False,
    encoder: Annotated[
        Encoder | None, choice("--encoder", of=Encoder, help="What items are encoded by.", panel=MODEL)
    ] = None,
    backbone: Annotated[
        Backbone | None, choice("--backbone", of=Backbone, help="What encodes a history.", panel=MODEL)
    ] = None,
    sequence: Annotated[
        SequenceKind | None,
        choice("--sequence", of=SequenceKind, help="All domains' items, or one domain's.", panel=MODEL),
    ] = None,
    loss: Annotated[
        Loss | None,
        choice("--loss", of=Loss, help="Loss of a training step; ce is sampled softmax.", panel=TRAINING),
    ] = None,
    negatives: Annotated[
        int | None, typer.Option("--negatives", min=1, help="Negatives of the loss.", rich_help_panel=TRAINING)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            help="At most, of every phase. Of one alone: --set options.finetune_epochs=N.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Users a step.", rich_help_panel=TRAINING)
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Learning rate of each phase without its own.", rich_help_panel=TRAINING),
    ] = None,
    quick: QuickOption = False,
    cutoffs: CutoffsOption = None,
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

    Examples:
        edt train --data demo
        edt train --data mine --model sasrec --preset sasrec-ce --seeds 42,44,46
        edt train --data mine --set training.lr=3e-4 --final
    """
    from edt_cli.config import UsageError, model_named, parse_assignments, preset_name
    from edt_cli.distributed.environment import follows, under_torchrun
    from edt_cli.distributed.launch import led
    from edt_cli.models.systems import OURS, asks_llm, check_processes, checked, limited, system
    from edt_cli.paper.ablations import ABLATED, MATCH_PAPER
    from edt_cli.training.device import open_device
    from edt_cli.workspace.events import Events
    from edt_cli.workspace.jobs import at_work

    if follows():
        from edt_cli.pipeline.following import follow

        follow(str(open_device(device)))
        return
    named = model_named(config, set_ or [])
    if model and named and model != named:
        raise UsageError(f"--model {model}, and model.name = {named} in other settings: leave one of them out")
    if final and refit:
        raise UsageError("--final holds out nothing, --refit holds out the test set: take one of them")
    if match_paper and (batch or any(one.startswith(("model.hidden=", "training.batch=")) for one in set_ or [])):
        raise UsageError("--match-paper sets model.hidden and training.batch; leave them to it")
    model = model or named or OURS
    changes: dict[str, dict[str, Any]] = llm.settings()
    changes["model"] = {"name": model, "encoder": encoder, "backbone": backbone, "sequence": sequence}
    changes["training"] = {
        "loss": loss,
        "negatives": negatives,
        "epochs": epochs or (1 if quick else None),
        "batch": batch,
        "lr": lr,
        "train_on": "all" if final else "train+valid" if refit else None,
    }
    changes["evaluation"] = {"cutoffs": cutoffs}
    for section, fields in MATCH_PAPER.items() if match_paper else ():
        changes[section] |= fields
    chosen = preset or (ABLATED if ablate else system(model).preset)
    settings = _without(settings_from(chosen, config, set_, **changes), ablate or [], preset_name(chosen))
    if most := changes["training"]["epochs"]:
        settings = limited(settings, most, but=parse_assignments(set_ or []).get("options", {}))
    work = _Work(
        workspace=open_workspace(workspace_),
        data=data,
        quick=quick,
        settings=checked(settings),
        preset=preset_name(chosen),
        seeds=[settings.training.seed] if seeds is None else seeds_of(seeds),
        llm=llm,
        compiled=compile_,
        sharded=shard_items,
    )
    if compile_ and open_device(device).type != "cuda":
        raise UsageError("--compile needs a CUDA GPU; leave it out")
    if under_torchrun() or (devices or 1) > 1:
        check_processes(model)
    elif shard_items:
        raise UsageError(
            "--shard-items shares rows out to several processes: it goes with --devices N, or torchrun"
        )
    final, asks = settings.training.train_on == "all", asks_llm(settings.model)
    if llm.dry_run or viewed(no_ui or under_torchrun(), json_):
        if asks or llm.dry_run:
            ask_before_spending(work.pipelines(Events(), "cpu")[0], llm, as_json=json_)
        watch(work.workspace, "train", data)
    with (
        stopping(),
        led(devices, str(open_device(device))) as own_device,
        at_work(work.workspace, "train", data, model=model, seeds=work.seeds, final=final) as events,
    ):
        pipelines = work.pipelines(events, own_device)
        if asks:
            ask_before_spending(pipelines[0], llm, as_json=json_)
        with progress() as listen:
            events.listeners = (listen,)
            if asks:
                pipelines[0] = pipelines[0].retried()
                for pipeline in pipelines:  # fixed now: all seeds read the same, whatever others ask again
                    pipeline.artefact_keys()
            runs = [pipeline.run((listen,)) for pipeline in pipelines]
        if final:
            _show_final(runs, work, as_json=json_)
        else:
            show_results(work.workspace, runs, "test", settings.evaluation, own_device, as_json=json_)


@dataclass(frozen=True)
class _Work:
    """Runs to make: one system with one preset on one dataset, once for each seed."""

    workspace: Workspace
    data: str
    quick: bool
    settings: Settings
    preset: str
    seeds: list[int]
    llm: LLMOptions
    compiled: bool
    sharded: bool

    def pipelines(self, events: Events, device: str) -> list[Pipeline]:
        """Return a pipeline for each seed, after checking that the LLM it needs can be asked."""
        from edt_cli.data.open import open_dataset
        from edt_cli.data.sample import quick_sample
        from edt_cli.llm.providers import Providers
        from edt_cli.models.systems import asks_llm
        from edt_cli.pipeline import Pipeline

        providers = Providers(
            self.workspace, self.settings, device, retry_failed=self.llm.retry_failed, dry=self.llm.dry_run
        )
        if asks_llm(self.settings.model):
            providers.check()
        with progress() as listen:
            events.listeners = (listen,)
            dataset = open_dataset(self.workspace, self.data)
            if self.quick:
                dataset = quick_sample(self.workspace, dataset)
        return [
            Pipeline(
                workspace=self.workspace,
                dataset=dataset,
                settings=self.settings.changed(training={"seed": seed}),
                events=events,
                device=device,
                shared=providers,
                preset=self.preset,
                compiled=self.compiled,
                sharded=self.sharded,
            )
            for seed in self.seeds
        ]


def _without(settings: Settings, ablations: list[str], preset: str) -> Settings:
    """Take parts of the method out of settings.

    Raises:
        UsageError: If the system is another, or the part is out already.
    """
    from edt_cli.config import UsageError
    from edt_cli.inference.labels import is_ablated
    from edt_cli.models.systems import OURS

    for name in dict.fromkeys(ablations):
        if settings.model.name != OURS:
            raise UsageError("--ablate takes parts out of llm-edt; it goes with --model llm-edt")
        if is_ablated(settings, name):
            already = f"the settings of {preset} are {ABLATIONS[name][0]} already"
            raise UsageError(f"--ablate {name} changes nothing: {already}")
        settings = settings.changed(**ABLATIONS[name][1])
    return settings


def _show_final(runs: list[Run], work: _Work, *, as_json: bool) -> None:
    for run in runs:
        note(f"{run.name} is trained on everything; use it with: edt recommend --run {run.name} --user NAME")
    if as_json:
        rows = [{"run": run.name, "preset": work.preset, "final": True} for run in runs]
        emit_json({"data": work.data, "runs": rows})
