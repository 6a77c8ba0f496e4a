"""`edt data`: prepare, list, stats, remove."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.clean import ask_before_removing
from edt_cli.cli.common import JsonOption, WorkspaceOption, YesOption, choice, note, open_workspace, progress, show
from edt_cli.cli.help import command
from edt_cli.config import Repeats, SplitRule, Ties
from edt_cli.data.heads import ENCODINGS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

app = typer.Typer(help="Prepare, list, show and remove datasets.", no_args_is_help=True)


@command(app)
def prepare(
    name: Annotated[
        str,
        typer.Argument(
            help="cloth-sport, elec-phone, food-kitchen, demo, or a name of your own.",
            autocompletion=complete.pairs,
        ),
    ],
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Folder of Amazon's files, or of RecBole .inter files.")
    ] = None,
    handled: Annotated[
        Path | None, typer.Option("--handled", help="Folder of the data released with LLM4CDSR and LLM-EDT.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the pair's public files (gigabytes).")
    ] = False,
    release: Annotated[
        int | None,
        typer.Option("--release", metavar="2018|2023", help="Amazon's release, for --raw and --download."),
    ] = None,
    domain_file: Annotated[
        list[str] | None,
        typer.Option(
            "--domain-file",
            metavar="[DOMAIN=]FILE",
            help="A domain's interactions; repeatable, also for several files, or a folder of them, of one domain. "
            "Without DOMAIN= it is called as the file.",
        ),
    ] = None,
    interactions: Annotated[
        Path | None, typer.Option("--interactions", help="One file for all domains, with a domain column.")
    ] = None,
    train: Annotated[Path | None, typer.Option("--train", help="Training part of data that is split.")] = None,
    valid: Annotated[Path | None, typer.Option("--valid", help="Its validation part.")] = None,
    test: Annotated[Path | None, typer.Option("--test", help="Its test part.")] = None,
    items: Annotated[
        list[str] | None,
        typer.Option("--items", metavar="[DOMAIN=]FILE", help="Item text, of one domain or of any; repeatable."),
    ] = None,
    item_vectors: Annotated[
        list[str] | None,
        typer.Option(
            "--item-vectors",
            metavar="[DOMAIN=]FILE",
            help="Vectors in place of an embedder's: .parquet, or .npy or .safetensors with NAME.ids.txt.",
        ),
    ] = None,
    domains: Annotated[
        str | None, typer.Option("--domains", help="Names of the domains, in order: food,kitchen.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", help="user=..,item=.. and time, domain, rating; user,item,time with --no-header."
        ),
    ] = None,
    item_columns: Annotated[
        str | None, typer.Option("--item-columns", help="The same for item files: item=..,title=..,brand=..")
    ] = None,
    no_header: Annotated[bool, typer.Option("--no-header", help="CSV files begin with data.")] = False,
    encoding: Annotated[
        str | None,
        choice("--encoding", of=ENCODINGS, help="Of CSV files."),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option("--time-format", help="auto, s, ms, us, ns, excel, ymd, ymdhms, or a pattern: %d.%m.%Y."),
    ] = None,
    window: Annotated[
        str | None, typer.Option("--window", help="none or START:END, dates or unix seconds. Own data: none.")
    ] = None,
    k_core: Annotated[
        str | None, typer.Option("--k-core", help="none, paper (the released passes) or a number. Own data: none.")
    ] = None,
    ties: Annotated[
        Ties, choice("--ties", of=Ties, help="Order of equal times: seeded, or the file's.")
    ] = "shuffle",
    repeats: Annotated[
        Repeats,
        choice(
            "--repeats",
            of=Repeats,
            help="drop-duplicates: lines with the user, item and time of another; keep: all lines stay; "
            "drop: what a user has had before goes too.",
        ),
    ] = "drop-duplicates",
    min_rating: Annotated[
        float | None, typer.Option("--min-rating", help="Leave out interactions with a lower rating, or none.")
    ] = None,
    describe: Annotated[
        list[str] | None,
        typer.Option("--describe", metavar="DOMAIN=TEXT", help="What a domain sells, for prompts; repeatable."),
    ] = None,
    overlap: Annotated[
        float | None, typer.Option("--overlap", help="Share of users left in several domains, such as 0.25.")
    ] = None,
    split: Annotated[
        SplitRule | None, choice("--split", of=SplitRule, help="What is held out. Default: leave-one-out.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of ties, overlap and candidates.")] = 42,
    variant: Annotated[str | None, typer.Option("--name", help="Keep it under another name.")] = None,
    a: Annotated[Path | None, typer.Option("--a", hidden=True)] = None,
    b: Annotated[Path | None, typer.Option("--b", hidden=True)] = None,
    a_items: Annotated[Path | None, typer.Option("--a-items", hidden=True)] = None,
    b_items: Annotated[Path | None, typer.Option("--b-items", hidden=True)] = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Read raw files into a dataset: filter, order, split, and say what became of every line.

    Examples:
        edt data prepare food-kitchen --raw DIR --window none --k-core none
        edt data prepare mine --domain-file shop.csv --domain-file outlet.csv
        edt data prepare mine --interactions log.parquet --columns domain=shop
    """
    from edt_cli.data.options import SourceOptions, data_settings
    from edt_cli.data.prepare import prepare_from_options
    from edt_cli.workspace.events import Events

    options = SourceOptions(
        raw=raw,
        handled=handled,
        download=download,
        release=release,
        domain_files=[*map(str, filter(None, (a, b))), *(domain_file or ())],
        interactions=interactions,
        train=train,
        valid=valid,
        test=test,
        items=[*_short_items(domains, (a, b), (a_items, b_items)), *(items or ())],
        item_vectors=item_vectors or (),
        domains=domains,
        columns=columns,
        item_columns=item_columns,
        header=not no_header,
        time_format=time_format,
        encoding=encoding,
    )
    settings = data_settings(
        name,
        options,
        window=window,
        k_core=k_core,
        split=split,
        ties=ties,
        repeats=repeats,
        min_rating=min_rating,
        describe=describe or (),
        overlap=overlap,
        seed=seed,
    )
    with progress() as listen:
        artefact, made = prepare_from_options(
            open_workspace(workspace_), name, options, settings, Events(listeners=(listen,)), keep_as=variant
        )
    manifest = artefact.manifest()
    show(
        {"data": artefact.key, "prepared_now": made, **manifest},
        [*_tally(manifest["tally"]), _plain(_size(artefact.key, manifest)), *_vectors(manifest)],
        as_json=json_,
    )


def _short_items(domains: str | None, files: Sequence[Path | None], items: Sequence[Path | None]) -> Iterator[str]:
    """Name the files of --a-items and --b-items as --items does. Scripts use these short forms of the past."""
    from edt_cli.data.formats import bare_name

    names = domains.split(",") if domains else [bare_name(file) if file else "" for file in files]
    for name, path in zip(names, items, strict=False):
        if path:
            yield f"{name.strip()}={path}" if name else f"{bare_name(path)}={path}"


@command(app, "list")
def list_(workspace_: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """List the datasets of the workspace.

    Examples:
        edt data list
        edt data list --json
        edt data list --workspace elsewhere
    """
    from edt_cli.reporting.grouping import shown_data
    from edt_cli.workspace.layout import size_on_disk

    datasets = [(artefact, artefact.manifest()) for artefact in open_workspace(workspace_).datasets()]
    table = _table("data", "users:r", "items", "interactions:r", "split", "MB:r")
    documents = []
    for artefact, manifest in datasets:
        size = size_on_disk(artefact.path)
        keys = ("data_key", "synthetic", "users", "items", "interactions", "split", "settings", "made")
        documents.append({"data": artefact.key, **{key: manifest[key] for key in keys}, "bytes": size})
        _row(
            table,
            shown_data(artefact.key, manifest["synthetic"], quick="sample_of" in manifest),
            f"{manifest['users']:,}",
            ", ".join(f"{count:,} {domain}" for domain, count in manifest["items"].items()),
            f"{manifest['interactions']:,}",
            manifest["split"],
            f"{size / 1e6:.1f}",
        )
    if not datasets:
        note("no dataset yet; make one with: edt data prepare demo")
    described = [
        _plain(f"{artefact.key}, {line}")
        for artefact, manifest in datasets
        for line in _descriptions(manifest["settings"])
    ]
    show({"datasets": documents}, [table, *described] if datasets else [], as_json=json_)


@command(app)
def stats(
    name: Annotated[str, typer.Argument(help="A prepared dataset.", autocompletion=complete.datasets)] = "demo",
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Show table 1 and figure 1 of a dataset, its ties and its text.

    Examples:
        edt data stats
        edt data stats food-kitchen
        edt data stats mine --json
    """
    from edt_cli.data.open import open_dataset
    from edt_cli.data.stats import statistics

    workspace = open_workspace(workspace_)
    document = statistics(open_dataset(workspace, name), workspace.dataset(name).manifest())
    show(document, _statistics(document), as_json=json_)


@command(app)
def remove(
    name: Annotated[str, typer.Argument(help="The dataset to remove.", autocompletion=complete.datasets)],
    workspace_: WorkspaceOption = None,
    yes: YesOption = False,
    json_: JsonOption = False,
) -> None:
    """Remove a prepared dataset; runs and raw files stay.

    Examples:
        edt data remove mine
        edt data remove mine --yes
        edt data remove mine --yes --json
    """
    from edt_cli.config import UserError, alternatives
    from edt_cli.workspace.housekeeping import remove_folder
    from edt_cli.workspace.layout import size_on_disk
    from edt_cli.workspace.remote import check_removable

    workspace = open_workspace(workspace_)
    check_removable(workspace)
    artefact = workspace.dataset(name)
    if not artefact.path.is_dir():
        names = [other.key for other in workspace.datasets()]
        raise UserError(f"there is no dataset {name!r} in this workspace; {alternatives(name, names)}")
    size = size_on_disk(artefact.path)
    ask_before_removing(f"Remove dataset {name} ({size / 1e6:.1f} MB)?", yes)
    remove_folder(artefact.path)
    show({"removed": name, "bytes": size}, [_plain(f"removed {name}, {size / 1e6:.1f} MB")], as_json=json_)


def _tally(tally: dict[str, Any]) -> list[RenderableType]:
    """What became of the lines of each file, and of the interactions after that."""
    files = _table("file", "lines:r", "usable:r", "the others")
    for file in tally["files"]:
        known = ("what", "file", "domain", "lines", "usable")
        others = ", ".join(f"{count:,} {what}" for what, count in file.items() if what not in known)
        name = f"{file['file']} ({file['domain']})" if file["domain"] else file["file"]
        _row(files, name, f"{file['lines']:,}", f"{file['usable']:,}", others)
    lines = _steps(tally)
    lines += [f"{count:,} {what}" for what, count in tally.items() if what not in ("files", "steps") and count]
    return [*([files] if tally["files"] else []), *map(_plain, lines)]


def _steps(tally: dict[str, Any]) -> list[str]:
    return [f"{step['left_out']:,} interactions left out: {step['what']}" for step in tally.get("steps", ())]


def _descriptions(settings: dict[str, Any]) -> list[str]:
    return [f"{domain}: {text}" for domain, text in settings.get("descriptions", {}).items()]


def _size(name: str, manifest: dict[str, Any]) -> str:
    items = " + ".join(f"{count:,} {domain}" for domain, count in manifest["items"].items())
    what = f"{manifest['users']:,} users, {items} items, {manifest['interactions']:,} interactions"
    several = manifest.get("users_in_several_domains")
    overlap = "" if several is None else f"; {several:,} users in several domains"
    release = f"; {_amazon(manifest)}" if "release" in manifest else ""
    return f"{_titled(name, manifest['synthetic'])}: {what} ({manifest['split']}){overlap}{release}"


def _vectors(document: dict[str, Any]) -> list[RenderableType]:
    """Vectors that the items came with, if they did."""
    given = document.get("item_vectors")
    if not given:
        return []
    items = " + ".join(f"{count:,} {domain}" for domain, count in given["items"].items())
    return [_plain(f"item vectors: given ({given['label']}), {given['dimension']} numbers each, of {items} items")]


def _statistics(document: dict[str, Any]) -> list[RenderableType]:
    from edt_cli.reporting.bar_chart import bar_chart

    title = _titled(document["data"], document["synthetic"])
    release = f", {_amazon(document)}" if document["release"] else ""
    table = _table(
        "domain", "users:r", "items:r", "with text:r", "interactions:r", "with text:r", "valid:r", "test:r"
    )
    table.title = f"Table 1: {title}{release}"
    for domain in document["domains"]:
        users, items, interactions, valid, test = (
            f"{domain[key]:,}" for key in ("users", "items", "interactions", "valid_targets", "test_targets")
        )
        of_items, of_interactions = (_percent(domain[f"{what}_with_text"]) for what in ("items", "interactions"))
        _row(table, domain["domain"], users, items, of_items, interactions, of_interactions, valid, test)
    several, ties = document["users_in_several_domains"], document["ties"]
    lines = [
        *_descriptions(document["settings"]),
        f"{document['users']:,} users, {several:,} of them in several domains; "
        f"{document['interactions']:,} interactions; "
        f"average length {document['average_length']:.2f} (mixed sequences)",
        f"ties: {_percent(ties['steps'])} of the steps lie within one timestamp, "
        f"{_percent(ties['test_targets'])} of the test targets (order here: {document['settings']['ties']})",
    ]
    if ties["file_ascending"] is not None:
        ascending = _percent(ties["file_ascending"])
        lines.append(f"in the order of the files {ascending} of the tied steps ascend by item id (50% is no order)")
    lines.append(_repeats(document["repeats"], document["settings"]["repeats"]))
    lines += _steps(document["tally"])
    edges = document["r"]["edges"]
    labels = [f"{low:.1f}-{high:.1f}" for low, high in pairwise(edges)]
    chart = bar_chart(labels, document["r"]["users"], f"Figure 1: users of {title} by r = |nA - nB| / (nA + nB)")
    sample = [
        f"users in {what}: {', '.join(document['sample'][key])}"
        for key, what in (("one_domain", "one domain"), ("several_domains", "several domains"))
        if document["sample"][key]
    ]
    return [table, *map(_plain, lines), *_vectors(document), chart, *map(_plain, sample)]


def _repeats(repeats: dict[str, Any], option: str) -> str:
    valid, test = (f"{repeats[f'{split}_targets']:,}" for split in ("valid", "test"))
    seen = "stay candidates" if repeats["keep_seen"] else "are no candidates"
    return (
        f"repeats: the user had the item before in {valid} validation and {test} test targets "
        f"({repeats['share']:.1%} of all, {_percent(repeats['test_share'])} of the test targets); "
        f"seen items {seen} (repeats here: {option})"
    )


def _table(*columns: str) -> Table:
    """`name:r` is aligned right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        name, _, side = column.partition(":")
        table.add_column(
            name, justify="right" if side else "left", overflow="fold", no_wrap=name in ("data", "split")
        )
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(_plain, cells))


def _plain(text: str) -> RenderableType:
    """Names of files, domains and users as they are, without markup or control characters."""
    from rich.text import Text

    from edt_cli.reporting.text import plain

    return Text(plain(text))


def _amazon(document: dict[str, Any]) -> str:
    return f"Amazon's {document['release']} release"


def _titled(name: str, synthetic: bool) -> str:
    return f"{name} (synthetic)" if synthetic else name


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
