"""`edt prompts`: what an LLM is asked with, the user's own in place of it, and a prompt tried on one user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import (
    ConfigOption,
    DataOption,
    JsonOption,
    PresetOption,
    PromptsOption,
    SetOption,
    WorkspaceOption,
    note,
    open_workspace,
    progress,
    settings_from,
    show,
    with_profiles,
)
from edt_cli.cli.help import command
from edt_cli.cli.llm import NOT_GIVEN, LLMOptions, confirm_spending, takes_llm_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edt_cli.llm.prompt_set import Prompts

app = typer.Typer(name="prompts", help="What an LLM is asked with, and your own prompts.", no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A prompt, as `list` names it.", autocompletion=complete.prompts)
]


@command(app, "list")
def list_(prompts: PromptsOption = None, config: ConfigOption = None, json_: JsonOption = False) -> None:
    """List the prompts: version, stage, placeholders, and what each asks for.

    Examples:
        edt prompts list
        edt prompts list --prompts my-prompts
        edt prompts list --json
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from edt_cli.llm.prompt_set import KINDS

    found = _prompts(prompts, config)
    rows: list[dict[str, Any]] = [
        {
            "prompt": kind.name,
            "version": found.version(kind.name).partition("@")[2],
            "own": found.is_own(kind.name),
            "stage": kind.stage,
            "required": list(kind.required),
            "optional": list(kind.optional),
            "about": kind.about,
            "file": str(found.file(kind.name)),
        }
        for kind in KINDS
    ]
    table = Table("prompt", "version", "stage", "placeholders", "asks for", box=SIMPLE_HEAD)
    for row in rows:
        given = " ".join([*(f"${name}" for name in row["required"]), *(f"[${name}]" for name in row["optional"])])
        cells = (row["prompt"], row["version"], row["stage"], given, row["about"])
        table.add_row(*(Text(str(cell)) for cell in cells))
    show({"prompts": rows}, [table, Text("[$name] may be left out", style="dim")], as_json=json_)


@command(app, "show")
def show_(
    name: NameArgument, prompts: PromptsOption = None, config: ConfigOption = None, json_: JsonOption = False
) -> None:
    """Show a prompt as it stands in its file.

    Examples:
        edt prompts show generate
        edt prompts show analyze --prompts my-prompts
        edt prompts show instructions --json
    """
    from rich.text import Text

    from edt_cli.llm.prompt_set import kind_of
    from edt_cli.reporting.text import plain

    kind_of(name)
    found = _prompts(prompts, config)
    path = found.file(name)
    document = {"prompt": name, "version": found.version(name), "file": str(path), "text": path.read_text("utf-8")}
    lines = "\n".join(plain(line) for line in document["text"].splitlines())
    show(document, [Text(lines)], as_json=json_)


@command(app, "export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder; it is made if it is not there.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Only these. Default: all.", autocompletion=complete.prompts),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Write the built-in prompts into a folder, to change them there and ask with --prompts DIR.

    A file without a change is the built-in prompt; what you do not need, remove.

    Examples:
        edt prompts export my-prompts
        edt prompts export my-prompts generate analyze
        edt prompts export my-prompts repair --force
    """
    from edt_cli.config import UserError
    from edt_cli.llm.prompt_set import BY_NAME, FOLDER, kind_of
    from edt_cli.workspace.files import write_atomic

    kinds = [kind_of(name) for name in names or BY_NAME]
    there = [kind.file for kind in kinds if (folder / kind.file).exists()]
    if there and not force:
        raise UserError(f"{folder / there[0]} is there already; --force writes over it")
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        write_atomic(folder / kind.file, (FOLDER / kind.file).read_text("utf-8"))
    note(f"{len(kinds)} prompts in {folder}; edt prompts check {folder} checks them")


@command(app, "check")
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of your own prompts.")],
    json_: JsonOption = False,
) -> None:
    """Check your own prompts: form, names and placeholders. The exit code is 1 if one is not valid.

    Examples:
        edt prompts check my-prompts
        edt prompts check my-prompts --json
        edt prompts export my-prompts && edt prompts check my-prompts
    """
    from rich.text import Text

    from edt_cli.config import UserError
    from edt_cli.llm.prompt_set import KINDS, Prompts, check_names
    from edt_cli.reporting.text import plain

    check_names(folder)
    found, rows = Prompts(folder), []
    for kind in KINDS:
        if not (folder / kind.file).is_file():
            continue
        try:
            version, problem = found.version(kind.name), None
        except UserError as error:
            version, problem = None, str(error)
        rows.append({"prompt": kind.name, "version": version, "problem": problem})
    lines = [row["problem"] or f"{row['version']} is valid" for row in rows]
    show({"prompts": rows}, [Text(plain(str(line))) for line in lines], as_json=json_)
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)


@command(app, "try")
@takes_llm_options
def try_(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="generate, summarize, reform, analyze or naive.",
            autocompletion=complete.prompts,
        ),
    ] = "generate",
    user: Annotated[
        str, typer.Option("--user", "-u", help="A user of the data, or `one-domain` for one with r = 1.")
    ] = "one-domain",
    data: DataOption = "demo",
    llm: LLMOptions = NOT_GIVEN,
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Ask a prompt about one user: the question, the reply, what is read in it, what is kept, and the price.

    The reply is kept like any other, so that trying it again costs nothing. --dry-run shows the question alone.

    Examples:
        edt prompts try --user U0004 --dry-run
        edt prompts try generate --data mine --user A1 --provider deepseek --prompts my-prompts
        edt prompts try analyze --data mine --provider ollama --llm-model llama3.1 --json
    """
    from edt_cli.config import UsageError, alternatives
    from edt_cli.data.open import open_dataset
    from edt_cli.inference.prompt_trial import TRIED, Trial
    from edt_cli.llm.providers import Providers
    from edt_cli.paper.ablations import ABLATED
    from edt_cli.pipeline import Pipeline
    from edt_cli.workspace.events import Events

    if name not in TRIED:
        raise UsageError(f"{name!r} is no prompt that can be tried; {alternatives(name, TRIED)}")
    chosen = preset or ABLATED
    settings = settings_from(chosen, config, set_, with_profiles(chosen), **llm.settings())
    workspace = open_workspace(workspace_)
    providers = Providers(workspace, settings, retry_failed=llm.retry_failed, dry=llm.dry_run)
    providers.check()
    with progress() as listen:
        events = Events(listeners=(lambda record: listen(record) if record["event"] != "skipped" else None,))
        pipeline = Pipeline(
            workspace=workspace,
            dataset=open_dataset(workspace, data),
            settings=settings,
            events=events,
            shared=providers,
        )
        trial = Trial.of(pipeline, name, user)
        if providers.embedder.paid and not pipeline.made("embeddings"):
            raise UsageError(f"the items have no vectors of {providers.embedder.name} yet: edt augment makes them")
        if llm.dry_run:
            document = trial.shown()
    if not llm.dry_run:
        if providers.paid:
            confirm_spending(yes=llm.yes)
        with progress() as listen:
            document = trial.ask()
            providers.note_hits(pipeline.chat)
    show(document, _render(document), as_json=json_)


def _prompts(folder: Path | None, config: Path | None) -> Prompts:
    """Return the prompts of --prompts, --config or the environment, as an LLM is asked with."""
    from edt_cli.llm.prompt_set import Prompts
    from edt_cli.paper.ablations import ABLATED

    given = {"prompts": None if folder is None else str(folder)}
    settings = settings_from(ABLATED, config, None, llm=given)
    return Prompts.of(settings.llm.model_copy(update={"provider": ""}))


def _render(document: dict[str, Any]) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    def lines(text: str) -> Text:
        return Text("\n".join(plain(line) for line in text.splitlines()))

    head = f"{document['prompt']} about {document['user']} of {document['data']}, to {document['llm']}"
    parts: list[RenderableType] = [Text(plain(head), style="bold")]
    for exchange in document["exchanges"]:
        parts.append(Text(plain(exchange["prompt"]), style="italic"))
        for turn in exchange["messages"]:
            parts += [Text(f"[{turn['role']}]", style="dim"), lines(turn["content"])]
        if "reply" in exchange:
            parts += [Text("[reply]", style="dim"), lines(exchange["reply"]), Text("")]
    parts += [Text(plain(f"failed: {why}"), style="bold") for why in document.get("failed", ())]
    if mended := document.get("mended"):
        parts.append(Text("mended: " + ", ".join(f"{count} {what}" for what, count in mended.items())))
    if "items" in document:
        table = Table("kept", "title", "for purchase", "nearest purchase", "source", "target", "tau", "why")
        for row in document["items"]:
            scores = (
                "" if row[part] is None else f"{row[part]:.3f}" for part in ("score_source", "score_target", "tau")
            )
            cells = ("yes" if row["kept"] else "no", row["title"], row["purchase"], row["anchor"], *scores)
            table.add_row(*(Text(plain(str(cell or ""))) for cell in (*cells, row["reason"])))
        parts.append(table)
    for summary in document.get("summaries", ()):
        parts.append(Text(plain(f"{summary['domain']}, group {summary['cluster']}: {summary['summary']}")))
    parts += [Text(plain(f"instruction: {text}")) for text in document.get("instructions", ())]
    if document.get("profile"):
        parts.append(Text(plain(f"profile: {document['profile']}")))
    parts += [Text(plain(line), style="dim") for line in [*document["notes"], _price(document)]]
    return parts


def _price(document: dict[str, Any]) -> str:
    if "calls" not in document:
        most = document["most_usd"]
        return "the price is not known" if most is None else f"it would cost {most:.6f} USD at most"
    known = "a price that is not known" if document["cost_usd"] is None else f"{document['cost_usd']:.6f} USD"
    used = [exchange["prompt_tokens"] + exchange["completion_tokens"] for exchange in document["exchanges"]]
    shown = f"{sum(used):,} tokens in what is shown"
    return f"{document['calls']} calls for {known}, {document['spent_usd']:.6f} USD of it now; {shown}"
