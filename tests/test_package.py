"""Beside the code: one version, hooks and a workflow that name what there is, a script for any machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import edt_cli

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "run"
HOOKS = ROOT / ".pre-commit-config.yaml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
A_FILE = re.compile(
    r"(?<![\w./-])(?:\.?[\w-]+/)*\.?[\w-]+(?:/[\w-]+|\.(?:cff|cfg|in|lock|md|py|sh|toml|txt|ya?ml))\b"
)

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="no checkout: a source package leaves these files out")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def texts(value: Any) -> Iterator[str]:
    """Every text in a YAML document but the actions and hooks of other repositories."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in ("uses", "repo"):
                yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def files(path: Path) -> set[str]:
    return {name for text in texts(read(path)) for name in A_FILE.findall(text.replace("\\.", "."))}


def test_the_version_to_cite_is_that_of_the_package():
    assert read(ROOT / "CITATION.cff")["version"] == edt_cli.__version__


def test_files_are_told_from_other_words():
    text = "sed -i 's/a/b/' pyproject.toml; .ci/run lint -c constraints.txt -e '.[test]' lowest-direct"
    assert {".ci/run", "constraints.txt", "pyproject.toml"} <= set(A_FILE.findall(text))


@pytest.mark.parametrize("path", [HOOKS, *WORKFLOWS], ids=lambda path: path.name)
def test_files_that_are_named_are_there(path):
    named = files(path)
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_hooks_run_what_the_tests_need():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["test"]
    installed = {re.split(r"\W", requirement)[0] for requirement in extra}
    hooks = [hook for repository in read(HOOKS)["repos"] for hook in repository["hooks"]]
    assert {hook["entry"].split()[0] for hook in hooks} <= installed
    assert {hook["language"] for hook in hooks} == {"system"}


def test_the_workflow_runs_parts_that_there_are():
    done = subprocess.run(["bash", SCRIPT, "nothing"], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    (parts,) = re.findall(r"\[(.*)\]", done.stderr)
    named = [
        part for path in WORKFLOWS for text in texts(read(path)) for part in re.findall(r"\.ci/run *(\w*)", text)
    ]
    assert set(named) == set(parts.split("|"))


def test_the_script_mentions_nothing_private():
    text = SCRIPT.read_text("utf-8").replace("#!/usr/bin/env bash", "", 1)
    assert not re.findall(r"https?:|@|index-url|(?<![\w*])/\w", text), "an address, or a path of one machine"
