"""`edt providers`: LLM providers, their keys and prices, and whether they answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import (
    ApiBaseOption,
    JsonOption,
    LlmModelOption,
    WorkspaceOption,
    note,
    open_workspace,
    show,
)

if TYPE_CHECKING:
    from edt_backends.directory import Listed
    from edt_cli.workspace.layout import Workspace


def providers(
    provider: Annotated[
        str | None, typer.Argument(help="Only this one, as --provider takes it.", autocompletion=complete.providers)
    ] = None,
    llm_model: LlmModelOption = None,
    api_base: ApiBaseOption = None,
    ping: Annotated[
        bool, typer.Option("--ping", help="Ask each that can be asked a question of a few tokens.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that a ping may take.")] = 30.0,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """List providers: whether their key is set, their price, and with --ping whether they answer.

    Those of the workspace's models.toml come last. Beside these, --provider takes any PROVIDER/MODEL of litellm.
    Keys are looked for and never shown.

    Examples:
        edt providers
        edt providers openai/gpt-4o-mini --ping
        edt providers ollama --llm-model llama3.1 --ping --timeout 60
    """
    from edt_backends import directory
    from edt_cli.llm.aliases import read_aliases

    workspace = open_workspace(workspace_)
    aliases = read_aliases(workspace.root)
    listing = (
        [] if provider in aliases else [*directory.providers(provider, llm_model, api_base, timeout, asked=ping)]
    )
    for name, alias in aliases.items():
        if provider in (None, name):
            (of_alias,) = directory.providers(alias.model, None, api_base or alias.api_base, timeout)
            listing.append(replace(of_alias, provider=name))
    rows = []
    for listed in listing:
        answers = _ping(listed, workspace) if ping else None
        rows.append(
            {
                "provider": listed.provider,
                "model": listed.model,
                "installed": listed.source,
                "key": listed.key,
                "has_key": listed.has_key,
                "usd_per_million": None if listed.price is None else list(listed.price),
                "answers": answers,
                "problem": listed.problem,
            }
        )
    problems = Counter(str(row["problem"]) for row in rows if row["problem"])
    shared = {problem for problem, count in problems.items() if count > 1}
    show({"providers": rows}, [_table(rows, shared)], as_json=json_)
    for problem in shared:
        note(problem)


def _ping(listed: Listed, workspace: Workspace) -> str:
    """Return the seconds until the answer, or why there was none. The call is in the ledger like any other."""
    from edt_backends.base import BackendError
    from edt_backends.budget import Budget, BudgetedChat
    from edt_backends.directory import ping
    from edt_backends.ledger import open_ledger

    if listed.backend is None:
        return "not asked"
    if not listed.backend.cacheable:
        return "yes, on this machine"
    try:
        return f"yes, in {ping(BudgetedChat(listed.backend, Budget(open_ledger(workspace.ledger)))):.1f} s"
    except BackendError as error:
        return f"no: {error}"


def _table(rows: list[dict[str, Any]], shared: set[str]) -> Any:
    """Return the table; a problem that several rows share stands below it, in one line."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    table = Table(title=Text("Providers; prices in USD for a million tokens in, out"), box=SIMPLE_HEAD)
    table.title_justify = "left"
    for heading in ("provider", "model", "from", "key", "price", "answers"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        is_set = "is set" if row["has_key"] else "is not set"
        key = f"{row['key']} {is_set}" if row["key"] else "none needed"
        price = row["usd_per_million"]
        cost = "not known" if price is None else "free" if not any(price) else f"{price[0]:g}, {price[1]:g}"
        said_by_the_key = row["has_key"] is False and row["key"] in (row["problem"] or "")
        problem = "" if said_by_the_key else "see below" if row["problem"] in shared else row["problem"] or ""
        said = row["answers"] if row["answers"] and not row["problem"] else problem
        cells = (row["provider"], row["model"] or "", row["installed"], key, "" if row["problem"] else cost, said)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    return table
