"""`edt models`: the systems that can be trained, and the settings of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import JsonOption, WorkspaceOption, note, open_workspace, show

if TYPE_CHECKING:
    from edt_cli.config import Settings
    from edt_cli.data.dataset import Dataset
    from edt_cli.models.systems import System


def models(
    name: Annotated[
        str | None,
        typer.Argument(help="A system, to see its preset and its options.", autocompletion=complete.models),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            help="Also how many parameters each has on this dataset.",
            autocompletion=complete.datasets,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Of NAME, another than its default, such as `paper` of llm-edt.",
            autocompletion=complete.presets,
        ),
    ] = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """List the systems: the paper of each, and what it needs; or show the presets of one, and what the first says.

    Examples:
        edt models
        edt models llm-edt --preset paper
        edt models sasrec --data mine --json
    """
    from edt_cli.config import UsageError
    from edt_cli.data.open import open_dataset

    if preset and name is None:
        raise UsageError("--preset goes with the name of a system")
    dataset = open_dataset(open_workspace(workspace_), data) if data else None
    if name is None:
        _list(dataset, as_json=json_)
    else:
        _show(name, preset, dataset, as_json=json_)


def _list(dataset: Dataset | None, *, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.config import UserError, load_settings
    from edt_cli.models.systems import BUILT_IN, broken, model_class, systems

    rows: list[dict[str, Any]] = []
    bad = dict(broken())
    for name, system in systems().items():
        try:
            if system.trained and system not in BUILT_IN:
                model_class(name)
            rows.append(_row(system, load_settings(system.preset, environment={}), dataset))
        except UserError as error:
            bad[name] = str(error)
    table = Table("model", "system", "paper", "needs")
    if dataset:
        table.add_column(f"parameters on {dataset.name}", justify="right")
    for row in rows:
        cells = [row["model"], row["system"], row["paper"], ", ".join(row["needs"])]
        cells += [f"{row['parameters']:,}"] if dataset else []
        table.add_row(*map(Text, cells))
    document = {"models": rows, "broken": [{"model": name, "why": why} for name, why in bad.items()]}
    show(document, [table], as_json=as_json)
    for name, why in bad.items():
        note(f"{name} is installed and cannot be used: {why}")


def _row(system: System, settings: Settings, dataset: Dataset | None) -> dict[str, Any]:
    from edt_cli.models.systems import needs

    row: dict[str, Any] = {
        "model": system.name,
        "system": system.title,
        "paper": f"{system.paper} {system.year or ''}".strip(),
        "needs": list(map(str, needs(settings.model))) or ["ids"],
    }
    if dataset:
        from edt_cli.training.sizes import parameters

        row["parameters"] = parameters(dataset, settings)
    return row


def _show(name: str, preset: str | None, dataset: Dataset | None, *, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.config import UsageError, alternatives, load_settings, preset_path
    from edt_cli.models.settings import settings_of
    from edt_cli.models.systems import options_of, presets_of, system

    known = system(name)
    names = list(presets_of(name))
    if preset and preset not in names:
        raise UsageError(f"{name} has no preset {preset!r}; {alternatives(preset, names, 'it has')}")
    chosen = known.preset if preset in (None, known.preset_name) else preset
    settings = load_settings(chosen, environment={})
    row = _row(known, settings, dataset)
    path = preset_path(chosen) if isinstance(chosen, str) else chosen
    rows = [
        {"option": option.name, "value": option.value, "default": option.default, "about": option.about}
        for option in settings_of("", options_of(name, settings.options))
    ]
    document = {**row, "presets": names, "preset": path.read_text("utf-8"), "options": rows}
    paper = f": {row['paper']}" if row["paper"] else ""
    facts = [f"{row['system']}{paper}. Needs {', '.join(row['needs'])}."]
    facts += [f"{row['parameters']:,} parameters on {dataset.name}."] if dataset else []
    facts += [f"Presets: {', '.join(names)}."] if len(names) > 1 else []
    lines = [Text(" ".join(facts)), Text(f"\n{document['preset'].strip()}\n")]
    table = Table("option", "here", "default", "")
    for option in rows:
        table.add_row(*(Text(str(option[key])) for key in ("option", "value", "default", "about")))
    rest = table if rows else Text("It has no options.")
    show(document, [*lines, rest], as_json=as_json)
