"""`edt export`: a trained run for other programs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from edt_cli.cli.common import (
    JsonOption,
    NewItemsOption,
    RunToUseOption,
    WorkspaceOption,
    choice,
    emit_json,
    note,
    open_workspace,
    progress,
    progress_alone,
    stdout,
)
from edt_cli.cli.eval import OptionalDataOption
from edt_cli.cli.recommend import newest_run
from edt_cli.config import IndexKind

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""What an export to ONNX needs."""


def export(
    onnx: Annotated[
        Path | None,
        typer.Option("--onnx", help="Write the user encoder as ONNX, and item vectors, to this folder."),
    ] = None,
    index: Annotated[
        IndexKind | None,
        choice(
            "--index",
            of=IndexKind,
            help="Write item vectors for a search: an index of one of these engines, or Parquet for any other.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="A Qdrant server for --index qdrant; its key is read from QDRANT_API_KEY."),
    ] = None,
    into: Annotated[Path | None, typer.Option("--into", help="Folder of --index. Default: that of --onnx.")] = None,
    new_items: NewItemsOption = None,
    data: OptionalDataOption = None,
    run: RunToUseOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Write a trained run for other programs: a user encoder as ONNX, item vectors, an index of them.

    Examples:
        edt export --onnx model/
        edt export --data mine --onnx model/ --index faiss
        edt export --run demo-sasrec-s42 --index parquet --into vectors/
        edt export --index qdrant --url http://localhost:6333 --into vectors/
    """
    from edt_cli.config import UsageError, UserError
    from edt_cli.data.lists import read_new_items
    from edt_cli.inference.export import model_of_vectors
    from edt_cli.inference.item_index import export_index
    from edt_cli.inference.measure import training_data_of
    from edt_cli.inference.onnx_export import export_onnx
    from edt_cli.inference.search_engines import ENGINES

    folder = into or onnx
    if onnx is None and index is None:
        raise UsageError("say what to write: --onnx FOLDER, or --index with --into FOLDER")
    if folder is None:
        raise UsageError("--index needs a folder: --into FOLDER")
    if into is not None and index is None:
        raise UsageError("--into is the folder of --index; --onnx takes its own")
    engine = ENGINES.get(index or "")
    if url is not None and (engine is None or engine.on_server is None):
        raise UsageError("--url goes with --index qdrant")
    needed = [(library, "export") for library in (ONNX if onnx else ())]
    for library, extra in [*needed, *([(engine.library, engine.extra)] if engine else [])]:
        try:  # before the minutes that the rest may take
            import_module(library)
        except ImportError as error:
            raise UserError(f"the export needs {error.name}: pip install 'edt-cli[{extra}]'") from None
    arrived = read_new_items(new_items) if new_items else None
    workspace = open_workspace(workspace_)
    source = newest_run(workspace, data, run)
    with progress() as listen:
        events = progress_alone(listen, "remark")
        training_data = training_data_of(workspace, source, events, new_items=arrived)
    model = model_of_vectors(training_data, source)
    documents: dict[str, dict[str, Any]] = {}
    if onnx is not None:
        documents["onnx"] = export_onnx(training_data, source, model, onnx)
    if index is not None:
        documents["index"] = export_index(training_data, source, model, index, folder, url)
    if json_:
        emit_json(documents)
    else:
        _show(documents)


def _show(documents: dict[str, dict[str, Any]]) -> None:
    if written := documents.get("onnx"):
        checked = written["checked"]
        note(f"the user encoder and the item vectors of {written['run']} are in {written['folder']}")
        note(
            f"checked with onnxruntime: {checked['same_top_10']:.1%} of the lists of ten of {checked['users']:,} "
            f"users are the same, and vectors differ by {checked['difference']:.1g} of their largest number"
        )
    if written := documents.get("index"):
        files = ", ".join(written["files"].values())
        where = f"at {written['url']}" if "url" in written else f"in {written['folder']}"
        note(f"the item vectors of {written['run']} are {where}: {files}")
        if written["recall"]:
            stdout().print(_recalls(written["recall"]))
        if not written["whole_score"]:
            note(
                "these vectors are a part of the score, and the memory (options.memory) is the rest: ask the "
                "index for candidates, and score them by the tables that --onnx writes"
            )


def _recalls(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    table = Table(title=Text("The exact ten best that the index finds"), title_justify="left")
    for name in ("domain", "ef", "recall", "ms a query"):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for row in rows:
        cells = str(row["effort"]), f"{row['recall']:.4f}", f"{row['milliseconds']:.3f}"
        table.add_row(Text(plain(row["domain"])), *cells)
    return table
