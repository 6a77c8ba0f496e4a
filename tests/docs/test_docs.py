"""The documentation says what is so: commands parse, links lead somewhere, the settings are those of the code."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from edt_cli.cli.app import app
from edt_cli.config import Settings
from edt_cli.models.settings import Setting, list_settings, settings_of, written
from edt_cli.models.systems import BUILT_IN, options_of

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    if ".venv" not in path.parts
)
SETTINGS = ROOT / "docs" / "settings.md"


def commands(page: Path) -> list[str]:
    """Every `edt ...` line of an indented block."""
    lines = re.findall(r"^ {4}(.*)$", page.read_text("utf-8"), re.MULTILINE)
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part == "edt" or part.startswith("edt ")]


COMMANDS = [(page.relative_to(ROOT).as_posix(), command) for page in PAGES for command in commands(page)]


def helps(command: Any, path: str = "edt") -> Iterator[tuple[str, Any]]:
    """Every command by its words, groups of commands left out."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from helps(inner, f"{path} {name}")


HELPS = dict(helps(typer.main.get_command(app)))
EXAMPLES = [
    (f"{path} --help", line.partition("|")[0].partition(">")[0])
    for path, command in HELPS.items()
    for line in (command.epilog or "").splitlines()
    if line.startswith("edt ")
]


@pytest.mark.parametrize("path", HELPS)
def test_the_help_of_a_command_has_three_examples(path):
    assert [page for page, _ in EXAMPLES].count(f"{path} --help") == 3
    assert HELPS[path].help.count("Example") == 0


@pytest.mark.parametrize(("page", "command"), [*COMMANDS, *EXAMPLES])
def test_a_command_is_one_that_edt_takes(page, command):
    """Every option and value is parsed as the command line would; nothing is run."""
    words = shlex.split(command, comments=True)[1:]
    command, context = typer.main.get_command(app), None
    while True:
        context = command.make_context("edt", list(words), parent=context)
        if not hasattr(command, "commands"):
            break
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    assert command.callback is not None


def test_the_documentation_has_commands():
    assert len(COMMANDS) > 50
    assert {"README.md", "docs/data.md", "docs/llm.md"} <= {page for page, _ in COMMANDS}


def headings(page: Path) -> set[str]:
    """Anchors as the host of the repository makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in headings(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_are_there(page):
    if page.name == "CHANGELOG.md":
        return
    for name in re.findall(r"`((?:edt_cli|examples|tests|docs)/[\w./-]+)`", page.read_text("utf-8")):
        assert "NAME" in name or (ROOT / name).exists(), name


def test_the_map_of_the_code_names_files_that_are_there():
    """`models/losses.py` and, after it in a cell, `profiled.py` of the same room."""
    for line in (ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines():
        room = "edt_cli"
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", line if line.startswith("| ") else ""):
            if name.endswith("/"):
                room = name.rstrip("/")
                root = ROOT / ("backends" if room == "edt_backends" else "edt_cli")
                assert (root / room).is_dir(), name
                continue
            room = str(Path(name).parent) if "/" in name else room
            places = [ROOT / "edt_cli" / name, ROOT / "edt_cli" / room / name, ROOT / "backends" / room / name]
            assert any(place.is_file() for place in places), name


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) < 700


def rows(settings: list[Setting]) -> list[str]:
    assert all(setting.about for setting in settings), "a setting without a description"
    cells = [(f"`{s.name}`", f"`{s.kind}`", f"`{written(s.default)}`", s.about) for s in settings]
    escaped = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in cells]
    return ["| setting | type | default | |", "|---|---|---|---|", *(f"| {row} |" for row in escaped), ""]


def settings_reference() -> str:
    out = [
        "# Settings",
        "",
        "Strongest first: a flag or `--set section.field=value`, `EDT_SECTION_FIELD` in the environment, a file",
        "(TOML) with `--config`, the preset, the default. `edt settings` shows them with a preset's values.",
        "",
    ]
    for section in list_settings(Settings()):
        if section.name != "options":
            out += [f"## {section.name}", "", section.about, "", *rows(section.settings)]
    for system in BUILT_IN:
        if options := settings_of("options.", options_of(system.name, {})):
            out += [f"## options of {system.name}", "", f"What {system.title} alone has.", "", *rows(options)]
    return "\n".join(out).rstrip() + "\n"


def test_the_settings_are_those_of_the_code():
    """After a change of a setting: EDT_DOCS=write pytest tests/docs."""
    found = settings_reference()
    if os.environ.get("EDT_DOCS") == "write":
        SETTINGS.write_text(found, "utf-8")
    assert SETTINGS.read_text("utf-8") == found


def test_the_python_of_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("EDT_WORKSPACE", str(tmp_path))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text("utf-8"), re.DOTALL)
    shorter = code.replace('"epochs": 5', '"epochs": 1')
    assert shorter != code
    exec(shorter, {})  # noqa: S102  (our own page)
