"""`edt doctor`: the machine, the workspace, and what is missing or slow."""

from __future__ import annotations

from typing import Any

import typer

from edt_cli.cli.common import JsonOption, WorkspaceOption, open_workspace, show


def doctor(workspace_: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """Say what edt runs on, and what is missing, slow or broken, with what mends it. Asks nobody over the network.

    Exit status 1 if something is broken.

    Examples:
        edt doctor
        edt doctor --workspace /data/edt
        edt doctor --json
    """
    from edt_backends.directory import keys
    from edt_cli.ui.machine import read_machine
    from edt_cli.workspace.health import cuda_of_torch, findings, free_bytes
    from edt_cli.workspace.layout import size_on_disk
    from edt_cli.workspace.machine import machine, versions

    workspace, facts, key_is_set = open_workspace(workspace_), machine(), keys()
    found = findings(workspace, facts, key_is_set)
    document = {
        **versions(),
        **facts,
        "cuda": cuda_of_torch(),
        "gpus": [gpu.name for gpu in read_machine().gpus],
        "workspace": {
            "path": str(workspace.root),
            "exists": workspace.root.is_dir(),
            "bytes": size_on_disk(workspace.root),
            "free": free_bytes(workspace),
        },
        "keys": key_is_set,
        "findings": [{"level": one.level, "what": one.what, "mend": one.mend} for one in found],
    }
    show(document, [_text(document)], as_json=json_)
    if any(one.level == "broken" for one in found):
        raise typer.Exit(1)


def _text(document: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    place, commit = document["workspace"], document["commit"]
    held = f"{place['bytes'] / 1e6:,.1f} MB" if place["exists"] else "not made yet"
    build = f"CUDA {document['cuda']}" if document["cuda"] else "CPU"
    keys = (f"{name} is {'set' if is_set else 'not set'}" for name, is_set in document["keys"].items())
    rows = {
        "edt": f"{document['edt']}{f' ({commit})' if commit else ''}, Python {document['python']}",
        "torch": f"{document['torch']}, {build}; numpy {document['numpy']}",
        "system": document["system"],
        "CPU": f"{document['cpu']}, {document['cores']} cores, {' '.join(document['flags'])}",
        "memory": f"{document['memory'] / 1e9:.1f} GB",
        "GPUs": ", ".join(document["gpus"]) or "none seen",
        "workspace": f"{place['path']}, {held}; {place['free'] / 1e9:,.1f} GB free",
        "keys": ", ".join(keys),
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=9)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(Text(name, style="dim"), Text(plain(value)))
    for finding in document["findings"]:
        style = "bold red" if finding["level"] == "broken" else "bold"
        said = f"{plain(finding['what'])}\n  {plain(finding['mend'])}"
        grid.add_row(Text(finding["level"], style=style), Text(said))
    if not document["findings"]:
        grid.add_row(Text("fine", style="bold"), Text("nothing is missing"))
    return grid
