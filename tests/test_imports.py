"""Imports run downwards only, and the command's help waits for nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import edt_backends
import edt_cli

LAYERS = (
    {"config"},
    {"workspace", "paper"},
    {"data", "distributed"},
    {"llm", "models"},
    {"evaluation"},
    {"augmentation", "profiling", "training"},
    {"pipeline"},
    {"inference"},
    {"ui", "experiments", "reporting", "api", "audit", "serving"},
    {"cli"},
)
"""Parts of edt_cli, the lowest first. A part may import from its own layer too, if no circle comes of it."""
HEIGHT = {part: height for height, parts in enumerate(LAYERS) for part in parts}
MAY_USE_BACKENDS = {"llm", "augmentation", "profiling", "pipeline", "inference", "audit", "ui", "cli"}
REPORTING_MAY_USE = {"config", "workspace", "data"}
HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "polars",
    "duckdb",
    "pyarrow",
    "safetensors",
    "diskcache",
    "litellm",
    "sentence_transformers",
    "transformers",
    "textual",
    "fastapi",
    "uvicorn",
    "prometheus_client",
    "onnx",
    "onnxruntime",
    "faiss",
    "hnswlib",
    "qdrant_client",
    "lancedb",
}


def imports(package: Path) -> Iterator[tuple[Path, int, str]]:
    """Every import under `package`, in functions and for the type checker too: (file, line, dotted name)."""
    for file in sorted(package.rglob("*.py")):
        inside = (package.name, *file.relative_to(package).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
            if isinstance(node, ast.Import):
                yield from ((file, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = [*inside[: -node.level]] if node.level else []
                base += [node.module] if node.module else []
                yield from ((file, node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def part(dotted: str) -> str | None:
    """`models` of `edt_cli.models.losses`; None for what edt_cli itself holds (`__version__`)."""
    name = dotted.split(".")[1] if "." in dotted else ""
    return None if name in {"", "__init__"} or name.startswith("__") else name


APPLICATION = Path(edt_cli.__file__).parent
BACKENDS = Path(edt_backends.__file__).parent
OWN = [
    (f"{file.relative_to(APPLICATION)}:{line}", source, name)
    for file, line, name in imports(APPLICATION)
    if (source := part("edt_cli." + ".".join(file.relative_to(APPLICATION).with_suffix("").parts)))
]


def test_every_part_has_its_layer():
    parts = {
        path.stem for path in APPLICATION.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert parts - {"__init__", "__main__"} <= set(HEIGHT), (
        "a new part: give it a layer above, by what DESIGN says it may import"
    )


def test_imports_run_downwards():
    upwards = [
        f"{where}: {source} imports {name}"
        for where, source, name in OWN
        if name.startswith("edt_cli.") and (target := part(name)) and HEIGHT[target] > HEIGHT[source]
    ]
    assert not upwards


def test_no_two_parts_import_each_other():
    graph: dict[str, set[str]] = defaultdict(set)
    for _, source, name in OWN:
        target = part(name) if name.startswith("edt_cli.") else None
        if target and target != source:
            graph[source].add(target)
    assert tuple(TopologicalSorter(graph).static_order())


def test_no_two_files_import_each_other():
    """In functions and for the type checker neither."""
    files = {
        ("edt_cli." + ".".join(file.relative_to(APPLICATION).with_suffix("").parts)).removesuffix(".__init__")
        for file in APPLICATION.rglob("*.py")
    }
    graph: dict[str, set[str]] = defaultdict(set)
    for file, _, name in imports(APPLICATION):
        source = "edt_cli." + ".".join(file.relative_to(APPLICATION).with_suffix("").parts)
        source, target = source.removesuffix(".__init__"), name
        while target not in files and "." in target:
            target = target.rpartition(".")[0]
        if target not in (source, "edt_cli"):
            graph[source].add(target)
    assert tuple(TopologicalSorter(graph).static_order())


def test_reporting_knows_no_model_and_no_run():
    beyond = [
        f"{where}: {name}"
        for where, source, name in OWN
        if source == "reporting" and name.startswith("edt_") and part(name) not in REPORTING_MAY_USE | {"reporting"}
    ]
    assert not beyond


def test_who_uses_the_backends():
    users = {source for _, source, name in OWN if name.split(".")[0] == "edt_backends"}
    assert users <= MAY_USE_BACKENDS


def test_only_commands_open_the_app():
    """Training, and whatever else makes something, knows nothing of who watches."""
    users = {source for _, source, name in OWN if name.startswith("edt_cli.ui") or name.split(".")[0] == "textual"}
    assert users <= {"ui", "cli"}


def test_the_backends_stand_alone():
    assert not [f"{file.name}:{line}" for file, line, name in imports(BACKENDS) if name.split(".")[0] == "edt_cli"]


def test_the_reading_of_imports_itself(tmp_path):
    package = tmp_path / "edt_cli"
    (package / "models").mkdir(parents=True)
    (package / "models" / "losses.py").write_text(
        "from . import batch\nfrom ..training.loop import run\n"
        "def f():\n    import edt_cli.cli.app as app, torch\n"
        "if TYPE_CHECKING:\n    from edt_cli import config\n"
    )
    assert {(line, name) for _, line, name in imports(package)} == {
        (1, "edt_cli.models.batch"),
        (2, "edt_cli.training.loop.run"),
        (4, "edt_cli.cli.app"),
        (4, "torch"),
        (6, "edt_cli.config"),
    }
    assert [part(name) for name in ("edt_cli.models.batch", "edt_cli.config", "edt_cli.__version__", "torch")] == [
        "models",
        "config",
        None,
        None,
    ]


@pytest.mark.parametrize("then", ["", "app.app(['--help'], standalone_mode=False)"], ids=["import", "help"])
def test_the_command_starts_light(then):
    code = f"import sys\nfrom edt_cli.cli import app\n{then}\nprint('\\nloaded', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.rpartition("loaded ")[2].split()}
    assert "typer" in loaded
    assert not loaded & HEAVY
