"""`edt cache`: replies and vectors that are kept, and what they cost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edt_cli.cli.clean import ask_before_removing
from edt_cli.cli.common import JsonOption, WorkspaceOption, YesOption, choice, note, open_workspace, show
from edt_cli.cli.help import command

if TYPE_CHECKING:
    from edt_backends.store import ReplyCache
    from edt_cli.workspace.layout import Workspace

app = typer.Typer(name="cache", help="Replies and vectors that are kept.", no_args_is_help=True)

Grouping = Literal["model", "stage"]
ModelOption = Annotated[str | None, typer.Option("--model", help="Only of this model, as `stats` names it.")]


def _open(workspace: Workspace) -> ReplyCache:
    from edt_backends.store import ReplyCache

    return ReplyCache(workspace.cache)


STAGES = {
    "generate": "augment",
    "reform": "profile",
    "summarize": "profile",
    "analyze": "profile",
    "naive": "profile",
}
"""The stage of each prompt."""


@command(app)
def stats(
    by: Annotated[Grouping, choice("--by", of=Grouping, help="A row for each model or each stage.")] = "model",
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Show entries, size on disk, USD spent and USD saved, by model; or USD, tokens and seconds by stage.

    Saved: the original cost of replies that the cache gave again. Unconfirmed is part of spent: calls without an
    answer, counted at their maximum cost.

    Examples:
        edt cache stats
        edt cache stats --by stage
        edt cache stats --json
    """
    from edt_backends.ledger import Account, has_ledger, open_ledger
    from edt_backends.store import ModelStats

    workspace = open_workspace(workspace_)
    if by == "stage":
        stages = _stages(workspace)
        show({"stages": stages}, [_stage_table(stages)], as_json=json_)
        return
    held = _open(workspace).stats()
    accounts = open_ledger(workspace.ledger).accounts() if has_ledger(workspace.ledger) else {}
    models = {}
    for name in sorted(held.models.keys() | accounts.keys()):
        kept, account = held.models.get(name, ModelStats()), accounts.get(name, Account())
        models[name] = {
            "entries": kept.entries,
            "tokens": kept.prompt_tokens + kept.completion_tokens,
            "worth_usd": kept.cost_usd,
            "calls": account.calls,
            "spent_usd": account.spent_usd,
            "unconfirmed_usd": account.unconfirmed_usd,
            "hits": account.hits,
            "saved_usd": account.saved_usd,
        }
    document = {"entries": held.entries, "bytes": held.bytes, "models": models}
    show(document, [_table(document)], as_json=json_)


@command(app)
def verify(workspace_: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """Hold the ledger's books against the cache's: each reply that was paid for is kept, with its tokens and USD.

    The exit code is 1 if they differ. What `clear` and `forget` removed was paid for and is not kept: it is told.

    Examples:
        edt cache verify
        edt cache verify --json
        edt cache verify --workspace elsewhere
    """
    from dataclasses import asdict

    from edt_backends.books import Books, compare_books
    from edt_backends.directory import PING
    from edt_backends.ledger import has_ledger, open_ledger

    workspace = open_workspace(workspace_)
    books = Books()
    if has_ledger(workspace.ledger) or workspace.cache.is_dir():
        books = compare_books(_open(workspace), open_ledger(workspace.ledger), frozenset({PING.prompt}))
    lines = [f"{books.agreed:,} replies stand in both books, {books.agreed_usd:.6f} USD"]
    if books.imported:
        lines.append(f"{books.imported:,} were imported: others paid for them")
    if books.unconfirmed:
        lines.append(
            f"{books.unconfirmed:,} calls had no answer, and count with their most: {books.unconfirmed_usd:.6f} USD"
        )
    for one in books.differences:
        usd = "at a price that is not known" if one.usd is None else f"{one.usd:.6f} USD"
        lines.append(f"{one.backend} {one.prompt}: {one.count:,} {one.what}, {usd}")
    lines.append("they differ" if books.differences else "the books agree")
    show(asdict(books), [_text(line) for line in lines], as_json=json_)
    if books.differences:
        raise typer.Exit(1)


@command(app, "export")
def export(
    out: Annotated[Path | None, typer.Argument(help="A file; without one, stdout.")] = None,
    model: ModelOption = None,
    workspace_: WorkspaceOption = None,
) -> None:
    """Write replies and vectors as JSON lines, for others to import. Titles are in them, users' ids are not.

    Examples:
        edt cache export replies.jsonl
        edt cache export replies.jsonl --model deepseek/deepseek-chat
        edt cache export | gzip > replies.jsonl.gz
    """
    from edt_backends.exchange import export_lines
    from edt_cli.workspace.files import replacing

    lines = export_lines(_open(open_workspace(workspace_)), model)
    count = 0
    if out is None:
        for line in lines:
            sys.stdout.write(line + "\n")
        return
    with replacing(out) as path, path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    note(f"{count:,} replies in {out}")


@command(app, "import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines of `edt cache export`.")],
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Add replies that others exported; entries that are here already stay.

    Examples:
        edt cache import replies.jsonl
        edt cache import replies.jsonl --json
        edt cache import replies.jsonl --workspace elsewhere
    """
    from edt_backends.exchange import import_lines
    from edt_cli.config import UserError

    try:
        with file.open(encoding="utf-8") as lines:
            taken = import_lines(_open(open_workspace(workspace_)), lines)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is no text in UTF-8") from None
    line = f"{taken.new:,} new, {taken.known:,} were here already"
    show({"new": taken.new, "known": taken.known}, [_text(line)], as_json=json_)


@command(app)
def clear(
    model: ModelOption = None,
    workspace_: WorkspaceOption = None,
    yes: YesOption = False,
) -> None:
    """Remove replies, which would then have to be paid for again.

    Examples:
        edt cache clear
        edt cache clear --model deepseek/deepseek-chat
        edt cache clear --yes
    """
    from edt_cli.config import UserError

    cache = _open(open_workspace(workspace_))
    held = cache.stats()
    if model is not None and model not in held.models:
        there = ", ".join(held.models) or "no replies"
        raise UserError(f"nothing of {model!r} is in the cache; there are: {there}")
    entries = held.models[model].entries if model is not None else held.entries
    worth = held.models[model].cost_usd if model is not None else held.cost_usd
    ask_before_removing(f"Remove {entries:,} replies that cost {worth:.4f} USD?", yes)
    note(f"removed {cache.clear(model):,} replies")


@command(app)
def forget(
    user: Annotated[str, typer.Argument(help="A user's id, as in the data.")],
    workspace_: WorkspaceOption = None,
    yes: YesOption = False,
) -> None:
    """Remove all questions about a user and their replies. What was made from them stays: see `edt clean`.

    Examples:
        edt cache forget A2X4HJ
        edt cache forget A2X4HJ --yes
        edt cache forget A2X4HJ --workspace elsewhere
    """
    cache = _open(open_workspace(workspace_))
    count = sum(1 for _ in cache.asked_about(user))
    if count:
        ask_before_removing(f"Remove {count:,} questions about {user}?", yes)
        cache.forget(user)
    note(f"{count:,} questions about {user} were in the cache" + (" and are gone" if count else ""))


def _stages(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return calls, tokens and USD of each stage from the ledger, and seconds and users from the replies."""
    from edt_backends.ledger import has_ledger, open_ledger

    empty = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "spent_usd": 0.0, "seconds": 0.0}
    stages: dict[str, dict[str, Any]] = {}
    users: dict[str, set[str]] = {}
    accounts = open_ledger(workspace.ledger).accounts(by="prompt") if has_ledger(workspace.ledger) else {}
    for prompt, account in accounts.items():
        row = stages.setdefault(STAGES.get(prompt, prompt), dict(empty))
        for name in ("calls", "prompt_tokens", "completion_tokens", "spent_usd"):
            row[name] += getattr(account, name)
    for prompt, seen in _open(workspace).observed().items():
        stage = STAGES.get(name := prompt.partition("@")[0], name)
        stages.setdefault(stage, dict(empty))["seconds"] += seen.seconds
        users.setdefault(stage, set()).update(seen.users)
    for stage, row in stages.items():
        count = len(users.get(stage, ()))
        row |= {"users": count, "usd_a_user": row["spent_usd"] / count if count else None}
        row["seconds_a_user"] = row["seconds"] / count if count else None
    return stages


def _stage_table(stages: dict[str, dict[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=_text("What the stages cost"), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("Stage")
    for heading in ("users", "calls", "tokens", "USD", "USD a user", "s", "s a user"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage, row in stages.items():
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        each = ["" if row[name] is None else form.format(row[name]) for name, form in EACH.items()]
        usd, seconds = f"{row['spent_usd']:.4f}", f"{row['seconds']:,.0f}"
        table.add_row(
            _text(stage), f"{row['users']:,}", f"{row['calls']:,}", f"{tokens:,}", usd, each[0], seconds, each[1]
        )
    return table


EACH = {"usd_a_user": "{:.6f}", "seconds_a_user": "{:.1f}"}


def _text(line: str) -> Any:
    from rich.text import Text

    return Text(line)


def _table(document: dict[str, Any]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    title = f"Reply cache: {document['entries']:,} entries, {document['bytes'] / 1e6:.1f} MB"
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, caption_justify="left")
    table.add_column("Model", overflow="fold")
    for heading in ("entries", "calls", "spent USD", "hits", "saved USD"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in document["models"].items():
        cells = (f"{row['spent_usd']:.4f}", f"{row['hits']:,}", f"{row['saved_usd']:.4f}")
        table.add_row(Text(plain(name)), f"{row['entries']:,}", f"{row['calls']:,}", *cells)
    unconfirmed = sum(row["unconfirmed_usd"] for row in document["models"].values())
    if unconfirmed:
        table.caption = Text(
            f"{unconfirmed:.4f} USD of it is unconfirmed: no answer came back, so the maximum was counted."
        )
    return table
