"""`edt models`: the systems that can be trained."""

from __future__ import annotations

from edt_cli.cli.common import JsonOption, show


def models(json_: JsonOption = False) -> None:
    """List the systems: the paper of each, and what it needs.

    Example: edt models --json
    """
    from rich.table import Table

    from edt_cli.config import load_settings
    from edt_cli.models.systems import needs, systems

    table = Table("model", "system", "paper", "needs")
    rows = []
    for name, system in systems().items():
        required: list[str] = [*needs(load_settings(system.preset, environment={}).model)] or ["ids"]
        paper = f"{system.paper} {system.year or ''}".strip()
        rows.append({"model": name, "system": system.title, "paper": paper, "needs": required})
        table.add_row(name, system.title, paper, ", ".join(required))
    show({"models": rows}, [table], as_json=json_)
