"""Preparation of datasets from raw files: read, filter, order and split, with a tally of all lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from edt_cli.config import DataSettings, UsageError, UserError
from edt_cli.data.assemble import assemble, numbered, ordered
from edt_cli.data.columns import Columns
from edt_cli.data.dataset import TEXT_FIELDS, Dataset
from edt_cli.data.demo import DEMO_DOMAINS, DEMO_SEED, make_demo
from edt_cli.data.doubts import check_metadata, check_vectors, report_doubts, shown_date
from edt_cli.data.filters import codes, core, limit_overlap, one_domain_per_item, repeated_rows
from edt_cli.data.handled import converted
from edt_cli.data.item_vectors import FILE, matched_vectors, save_vectors
from edt_cli.data.options import SourceOptions, find_sources
from edt_cli.data.readers import LARGE, Reader, StageProgress
from edt_cli.data.saved import data_key, save
from edt_cli.data.sources import File, Sources, checked_domains
from edt_cli.data.vector_files import read_vectors, vector_files
from edt_cli.workspace.event_types import Remark, Skipped
from edt_cli.workspace.events import Events
from edt_cli.workspace.files import scratch_folder
from edt_cli.workspace.layout import Artefact, Workspace, digest, file_digest

RECIPE = 2  # Increase when the same files and options yield another dataset.
NO_FILTER = DataSettings(window=None, k_core=None)
TIE_SAMPLE_USERS = 10_000
OTHER_DOMAIN = 255


def prepare_from_options(
    workspace: Workspace,
    name: str,
    options: SourceOptions,
    settings: DataSettings,
    events: Events,
    *,
    keep_as: str | None,
) -> tuple[Artefact, bool]:
    """Prepare the dataset of `edt data prepare NAME`: `demo`, a pair of the paper, or files of the user.

    Returns:
        The dataset, and whether it was made now.

    Raises:
        UsageError: If options contradict each other.
        UserError: If the data cannot be read, or no interaction is left.
    """
    target = keep_as or name
    workspace.dataset(target)
    if name == "demo":
        if options.kinds or options.item_vectors:
            raise UsageError("demo is built in and reads no files; give your data another name")
        return prepare_demo(workspace, settings, events, target)
    if target == "demo":
        raise UsageError("demo is the name of the built-in pair; choose another")
    return prepare(workspace, target, find_sources(name, options, workspace, events), settings, events)


def prepare(
    workspace: Workspace, name: str, sources: Sources, settings: DataSettings, events: Events
) -> tuple[Artefact, bool]:
    """Prepare the dataset `name`, unless it was prepared from the same files and options.

    Returns:
        The dataset, and whether it was made now.

    Raises:
        UserError: If a file cannot be read or has no usable row, or no interaction is left.
    """
    files = [("interactions", file) for file in sources.interactions] + [("items", file) for file in sources.items]
    files += [
        ("item vectors", replace(one, path=path)) for one in sources.vectors for path in vector_files(one.path)
    ]
    files += [("ids", File(sources.id_map))] if sources.id_map else []
    source = [_file_record(what, file, events) for what, file in files]
    columns = [asdict(sources.columns), asdict(sources.item_columns)]
    recipe = digest(RECIPE, source, sources.domains, columns, settings)
    if sources.domains:  # else after reading
        check_described(settings, sources.domains)
    artefact = workspace.dataset(name)
    if not _replaceable(artefact, recipe, events):
        return artefact, False
    with (
        artefact.create(recipe=recipe, source=source, synthetic=False) as (folder, manifest),
        scratch_folder(workspace.root) as scratch,
    ):
        reader = Reader(scratch, events)
        if sources.id_map:
            sources = converted(sources, scratch / "converted", events)
        frame, domains, tally = _interactions(reader, sources, settings)
        check_described(settings, domains)
        texts: pl.DataFrame | None = None
        if frame["domain"].null_count():
            texts = _texts(reader, sources, domains, frame["item"], tally)
            frame = _domains_from_items(frame, texts, tally)
        frame = _filtered(frame, len(domains), settings, tally)
        if texts is None:
            texts = _texts(reader, sources, domains, frame["item"], tally)
        items = _items(frame, texts)
        check_metadata(items, texts, domains, sources, events)
        manifest |= {"release": sources.release} if sources.release else {}
        manifest |= {"spans": _spans(frame, domains), "tie_order": _tie_order(frame, items), "tally": tally}
        rows = [numbered(frame, items, settings)]
        del frame  # as large as what is made of its rows
        dataset = ordered(rows.pop(), domains, settings)
        manifest |= _write(folder, dataset, tally, sources, events)
    report_doubts(items, domains, artefact.manifest(), events)
    return artefact, True


def prepare_demo(
    workspace: Workspace, settings: DataSettings, events: Events, name: str = "demo"
) -> tuple[Artefact, bool]:
    """Prepare the built-in synthetic dataset, with the same settings as other data."""
    recipe = digest(RECIPE, "demo", DEMO_SEED, settings)
    check_described(settings, DEMO_DOMAINS)
    artefact = workspace.dataset(name)
    if not _replaceable(artefact, recipe, events):
        return artefact, False
    with artefact.create(recipe=recipe, source=[], synthetic=True) as (folder, manifest):
        interactions, items = make_demo()
        tally: dict[str, Any] = {"files": [], "steps": []}
        frame = interactions.join(items.select("item", "domain"), on="item", maintain_order="left")
        frame = frame.with_columns(pl.col("user", "item").cast(pl.Categorical))
        frame = _filtered(frame, len(DEMO_DOMAINS), settings, tally)
        manifest |= {"spans": _spans(frame, DEMO_DOMAINS), "tie_order": _tie_order(frame, items), "tally": tally}
        dataset = assemble(frame, items, DEMO_DOMAINS, settings)
        manifest |= _write(folder, dataset, tally, Sources(()), Events())
    return artefact, True


def ensure_demo(workspace: Workspace) -> None:
    """Prepare `demo` if it does not exist, which takes about a second."""
    if not workspace.dataset("demo").complete:
        prepare_demo(workspace, NO_FILTER, Events())


def check_described(settings: DataSettings, domains: Sequence[str]) -> None:
    """Check that the descriptions are of domains that there are.

    Raises:
        UsageError: If one is of another.
    """
    if unknown := [name for name in settings.descriptions if name not in domains]:
        raise UsageError(f"--describe {unknown[0]}: the domains are {', '.join(domains)}")


def _replaceable(artefact: Artefact, recipe: str, events: Events) -> bool:
    if artefact.complete:
        if artefact.manifest().get("recipe") == recipe:
            events.emit(Skipped(message=f"{artefact.key} is already prepared from these files, nothing to do"))
            return False
        events.emit(Remark(message=f"{artefact.key} was prepared from other files or options: it will be replaced"))
    return True


def _file_record(what: str, file: File, events: Events) -> dict[str, Any]:
    try:
        size = file.path.stat().st_size
        if size > LARGE:
            events.emit(Remark(message=f"checking whether {file.path.name} has changed ({size / 1e9:.1f} GB)"))
        sha256 = file_digest(file.path)
    except OSError as error:
        raise UserError(f"cannot read {file.path}: {error.strerror}") from None
    described = {"what": what, "file": file.path.name, "bytes": size, "sha256": sha256}
    return {**described, "domain": file.domain, "part": file.part}


def _interactions(
    reader: Reader, sources: Sources, settings: DataSettings
) -> tuple[pl.DataFrame, tuple[str, ...], dict[str, Any]]:
    """Read all interactions, in the order of the files.

    Returns:
        user and item (categories), time, domain (number, null if not known yet) and part; the names of the domains;
        and the tally.
    """
    tally: dict[str, Any] = {"files": [], "steps": []}
    read: list[tuple[File, pl.LazyFrame]] = []
    for file in sources.interactions:
        domain_needed = file.domain is None and not sources.items
        columns = _shared_columns(reader, file, sources)
        rated = settings.min_rating is not None
        rows, counts = reader.interactions(file.path, columns, domain_needed=domain_needed, rated=rated)
        tally["files"].append(_file_tally("interactions", file, counts))
        read.append((file, rows))
    without = [f for f in sources.interactions if not reader.has_times(f.path, sources.columns)]
    if without and settings.split == "global-time":
        raise UserError(f"{without[0].path.name} has no times: --split global-time needs them")
    if without and len(sources.interactions) > 1 and any(file.part is None for file in sources.interactions):
        raise UserError(
            f"{without[0].path.name} has no times, so what came first in it and in the other files is not known: "
            "add a column of times, or put all into one file with a column `domain`"
        )
    domains = sources.domains or _domains_of_column(pl.concat([rows for _, rows in read]))
    lazy = pl.concat(
        rows.with_columns(domain=_domain_number(file.domain, domains), part=pl.lit(file.part, pl.UInt8))
        for file, rows in read
    )
    if settings.min_rating is not None:
        lazy = _rated(lazy, settings.min_rating, tally)
    lazy = lazy.drop("rating")
    total, first, last = (
        lazy.select(pl.len(), pl.min("time"), pl.max("time").alias("last")).collect(engine="streaming").row(0)
    )
    if settings.window is not None:
        start, end = settings.window
        lazy = lazy.filter(pl.col("time") > start, pl.col("time") < end)
    frame = lazy.with_columns(pl.col("user", "item").cast(pl.Categorical)).collect(engine="streaming")
    if settings.window is not None:
        _step(tally, "outside the window", total - len(frame))
        if frame.is_empty():
            raise UserError(
                f"no interaction lies between {shown_date(start)} and {shown_date(end)} "
                f"(the data runs from {shown_date(first)} to {shown_date(last)}); "
                "for data that is older or filtered already: --window none --k-core none"
            )
    if others := int((frame["domain"] == OTHER_DOMAIN).sum()):  # else a copy of all rows would be made
        frame = frame.filter(pl.col("domain").ne_missing(OTHER_DOMAIN))
    _step(tally, "of a domain that --domains leaves out", others)
    if frame.is_empty():
        raise UserError(
            f"no interaction is of the domains {', '.join(domains)}; does --domains name them as the files do?"
        )
    return frame, domains, tally


def _rated(rows: pl.LazyFrame, least: float, tally: dict[str, Any]) -> pl.LazyFrame:
    """Drop interactions with a lower rating, and those without one."""
    rating, low = pl.col("rating"), pl.col("rating") < least
    summary = rows.select(pl.len(), none=rating.null_count(), low=low.sum(), best=rating.max())
    total, without, lower, best = summary.collect(engine="streaming").row(0)
    _step(tally, f"rated below {least:g}", lower)
    _step(tally, "without a rating", without)
    if without + lower == total:
        why = "none has a number" if best is None else f"the best is {best:g}"
        raise UserError(f"no interaction is rated {least:g} or higher: {why}")
    return rows.filter(~low)


def _shared_columns(reader: Reader, file: File, sources: Sources) -> Columns:
    """Return the columns of a file of interactions, its item the id that the files of items have, too.

    Reviews of Amazon's 2023 release have `asin` and `parent_asin`, its metadata only the latter.
    """
    columns = sources.columns
    if not columns.header or "item" in columns.names:
        return columns
    known = reader.item_columns(file.path, columns)
    beside = [
        other for other in sources.items if None in (other.domain, file.domain) or other.domain == file.domain
    ]
    if len(known) < 2 or not beside or "item" in sources.item_columns.names:
        return columns
    of_items = [reader.item_columns(one.path, sources.item_columns) for one in beside]
    shared = [column for name, column in known.items() if all(name in names for names in of_items)]
    return replace(columns, names={**columns.names, "item": shared[0]}) if shared else columns


def _domains_of_column(rows: pl.LazyFrame) -> tuple[str, ...]:
    """Return the names in the domain column, in the order of their first occurrence."""
    names = rows.select("domain").unique(maintain_order=True).collect(engine="streaming")["domain"].drop_nulls()
    if names.is_empty():
        raise UserError("no file says which domains there are: name them with --domains, such as food,kitchen")
    return checked_domains(names)


def _domain_number(name: str | None, domains: Sequence[str]) -> pl.Expr:
    """Return the number of a file's domain, or an expression for the numbers of the domain column.

    OTHER_DOMAIN stands for a name that is not in `domains`, null for no name.
    """
    numbers = {domain: number for number, domain in enumerate(domains)}
    if name is not None:
        return pl.lit(numbers[name], pl.UInt8)
    column = pl.col("domain").replace_strict(numbers, default=OTHER_DOMAIN, return_dtype=pl.UInt8)
    return pl.when(pl.col("domain").is_not_null()).then(column)


def _filtered(frame: pl.DataFrame, domains: int, settings: DataSettings, tally: dict[str, Any]) -> pl.DataFrame:
    """Apply the filters of the recipe, in their order."""
    frame, items, dropped = one_domain_per_item(frame, domains)
    if items:
        tally["items in several domains"] = items
        _step(tally, "listed again by another domain's file", dropped)
    frame = _without_repeats(frame, settings, tally)
    before = len(frame)
    if settings.k_core is not None and before:
        frame, tally["k-core passes"] = core(frame, settings.k_core)
        _step(tally, "outside the k-core", before - len(frame))
    if frame.is_empty():
        raise UserError(
            f"the k-core passes leave nothing of {before:,} interactions; "
            "for data that is filtered already, or small: --k-core none"
        )
    if settings.overlap is not None:
        before = len(frame)
        frame = limit_overlap(frame, settings.overlap, settings.seed)
        _step(tally, "of users who keep one domain only", before - len(frame))
    return frame


def _without_repeats(frame: pl.DataFrame, settings: DataSettings, tally: dict[str, Any]) -> pl.DataFrame:
    """Drop duplicates, and with `drop` also repeats, before interactions are counted."""
    repeated = repeated_rows(frame, ("user", "item", "time"))
    if settings.repeats == "keep":
        tally["duplicates (kept)"] = int(repeated.sum())
        return frame
    _step(tally, "duplicates: user, item and time of another line (--repeats keep keeps them)", int(repeated.sum()))
    frame = frame.filter(pl.Series(~repeated)) if repeated.any() else frame
    if settings.repeats == "drop":
        repeated = repeated_rows(frame, ("user", "item"))
        _step(tally, "repeats: an item that the user had before", int(repeated.sum()))
        frame = frame.filter(pl.Series(~repeated))
    return frame


def _texts(
    reader: Reader, sources: Sources, domains: Sequence[str], wanted: pl.Series, tally: dict[str, Any]
) -> pl.DataFrame:
    """Read the text of the wanted items: item, domain (number or null) and TEXT_FIELDS.

    The files of items come first, then files of interactions that have columns of text.
    """
    names = wanted.unique().cast(pl.String)
    frames = [pl.DataFrame(schema={"item": pl.String, "domain": pl.UInt8, **dict.fromkeys(TEXT_FIELDS, pl.String)})]
    for file in sources.items:
        texts, counts = reader.items(file.path, sources.item_columns, names)
        tally["files"].append(_file_tally("items", file, counts))
        frames.append(texts.with_columns(domain=_domain_number(file.domain, domains)))
    # In files of interactions, a column `name` may be the name of the user.
    columns = replace(sources.columns, passed_over=("name",))
    for file in sources.interactions:
        if reader.has_item_text(file.path, columns):
            texts, counts = reader.items(file.path, columns, names)
            if counts["usable"] < counts["lines"]:
                tally["files"].append(_file_tally("items", file, counts))
            frames.append(texts.with_columns(domain=_domain_number(file.domain, domains)))
    return pl.concat(frames)


def _domains_from_items(frame: pl.DataFrame, texts: pl.DataFrame, tally: dict[str, Any]) -> pl.DataFrame:
    """Fill in unknown domains from the files of items; drop interactions whose item is in none of them."""
    known = texts.filter(pl.col("domain") < OTHER_DOMAIN).unique("item", keep="first", maintain_order=True)
    known = known.select(pl.col("item").cast(pl.Categorical), known="domain")
    filled = frame.join(known, on="item", how="left", maintain_order="left")
    filled = filled.with_columns(domain=pl.coalesce("domain", "known")).drop("known")
    frame = filled.drop_nulls("domain")
    _step(tally, "with an item of no known domain", len(filled) - len(frame))
    if frame.is_empty():
        raise UserError("no item of the interactions is in the files of items: do both use the same ids?")
    return frame


def _items(frame: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Return one row per item of the frame; text from a file of its domain takes precedence."""
    items = frame.select("item", "domain").unique("item").with_columns(pl.col("item").cast(pl.String))
    joined = items.join(texts, on="item", how="left", suffix="_of_text", maintain_order="left")
    same_domain = (pl.col("domain") == pl.col("domain_of_text")).fill_null(True)
    return joined.sort(same_domain.not_(), maintain_order=True).unique("item", keep="first").drop("domain_of_text")


def _write(
    folder: Path, dataset: Dataset, tally: dict[str, Any], sources: Sources, events: Events
) -> dict[str, Any]:
    """Write the tables and item vectors, and return what the manifest says of them."""
    domains = dataset.domains
    counts = dataset.sequences.domain_counts(domains)
    saved = save(dataset, folder)
    vectors = {}
    if sources.vectors:
        vectors["item_vectors"] = _write_vectors(folder, dataset, sources, tally, events)
        saved["content"][FILE] = vectors["item_vectors"]["key"]
    return saved | {
        "data_key": data_key(saved, dataset.settings),
        "split": dataset.settings.split,
        "users": len(dataset.sequences),
        "interactions": len(dataset.sequences.items),
        "items": dict(zip(domains.names, np.diff(domains.starts).tolist(), strict=True)),
        "users_in_several_domains": int(((counts > 0).sum(1) > 1).sum()),
        "test_targets": len(dataset.targets("test").users),
        **vectors,
    }


def _write_vectors(
    folder: Path, dataset: Dataset, sources: Sources, tally: dict[str, Any], events: Events
) -> dict[str, Any]:
    """Write the vectors that the user has for the items, and return what the manifest says of them."""
    ids = dataset.catalogue["id"]
    domains = {name: dataset.domains.range(number) for number, name in enumerate(dataset.domains.names)}
    tables = [(file, read_vectors(file.path, sources.item_columns)) for file in sources.vectors]
    check_vectors(ids, domains, tables, events)
    return save_vectors(matched_vectors(tables, ids, domains, tally), sources.vectors, domains, folder)


def _spans(frame: pl.DataFrame, domains: Sequence[str]) -> dict[str, list[int]]:
    """Return the first and the last time of each domain that has an interaction."""
    spans = frame.lazy().group_by("domain").agg(first=pl.min("time"), last=pl.max("time")).sort("domain")
    rows = spans.collect(engine="streaming")
    return {domains[number]: [first, last] for number, first, last in rows.iter_rows()}


def _tie_order(frame: pl.DataFrame, items: pl.DataFrame) -> dict[str, int]:
    """Count ties, to show whether the order of the files within a timestamp follows the item id.

    Returns:
        `steps`, from an item to another at the same time, and how many of them are `ascending` by domain and id,
        for at most TIE_SAMPLE_USERS users.
    """
    user = codes(frame["user"])
    sample = np.flatnonzero(np.bincount(user))[:TIE_SAMPLE_USERS].max()
    numbers = items.select("item", "domain").sort("domain", "item").with_row_index("number")
    steps = (
        frame.filter(pl.Series(user <= sample))
        .join(numbers.select(pl.col("item").cast(pl.Categorical), "number"), on="item", maintain_order="left")
        .sort("user", "time", maintain_order=True)
        .select(
            tied=(pl.col("user") == pl.col("user").shift())
            & (pl.col("time") == pl.col("time").shift())
            & (pl.col("number") != pl.col("number").shift()),
            ascends=pl.col("number") > pl.col("number").shift(),
        )
        .filter("tied")
    )
    return {"steps": len(steps), "ascending": int(steps["ascends"].sum())}


def _step(tally: dict[str, Any], what: str, left_out: int) -> None:
    if left_out:
        tally["steps"].append({"left_out": left_out, "what": what})


def _file_tally(what: str, file: File, counts: StageProgress) -> dict[str, Any]:
    return {"what": what, "file": file.path.name, "domain": file.domain, **counts}
