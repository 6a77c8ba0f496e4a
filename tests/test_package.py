"""Beside the code: what the package declares and holds, and hooks, a workflow and a script that fit it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions, packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_imports import APPLICATION, BACKENDS, imports

import edt_cli

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
METADATA = f"edt_cli-{edt_cli.__version__}.dist-info"
TOOLS = {"edt-cli", "pip", "setuptools", "wheel", "uv"}
"""What an environment has beside what edt needs."""
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


def test_links_are_those_of_the_citation():
    paper = read(ROOT / "CITATION.cff")["references"][0]
    preprint = paper["identifiers"][0]["value"].removeprefix("arXiv:")
    assert PROJECT["urls"] == {
        "Paper": f"https://doi.org/{paper['doi']}",
        "Preprint": f"https://arxiv.org/abs/{preprint}",
    }


def required(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by name; an extra of edt itself stands for what is in it."""
    found = {}
    for line in lines:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            for extra in requirement.extras:
                found |= required(EXTRAS[extra])
        else:
            found[canonicalize_name(requirement.name)] = requirement
    return found


def test_whatever_is_imported_is_declared():
    ours = {"edt_cli", "edt_backends", *sys.stdlib_module_names}
    modules = {name.split(".")[0] for package in (APPLICATION, BACKENDS) for *_, name in imports(package)} - ours
    lacking = {
        "pynvml": ["nvidia-ml-py"],
        "mlflow": ["mlflow-skinny"],
        "wandb": ["wandb"],
        "ray": ["ray"],
        "hnswlib": ["hnswlib"],
        "qdrant_client": ["qdrant-client"],
        "lancedb": ["lancedb"],
    }  # perhaps, here
    providers = {**packages_distributions(), **lacking}
    declared = required(
        [*PROJECT["dependencies"], "edt-cli[all,mlflow,wandb,ray,postgres,s3,hnswlib,qdrant,lancedb]"]
    )
    assert {"torch", "litellm", "transformers"} <= modules
    assert {name for name in modules if not declared.keys() & map(canonicalize_name, providers[name])} == set()


def test_a_bare_install_is_for_local_alone():
    assert {"litellm", "optuna", "nvidia-ml-py"}.isdisjoint(required(PROJECT["dependencies"]))
    readme = (ROOT / "README.md").read_text("utf-8")
    (first,) = (line for line in readme.splitlines() if "edt train --data demo" in line and "pip install" in line)
    assert "'.[all]'" in first
    card = {"typer", "rich", "textual", "torch", "scikit-learn", "litellm", "diskcache"}
    assert card <= required([*PROJECT["dependencies"], "edt-cli[all]"]).keys()


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_constraints_are_within_the_bounds():
    pinned = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins()}
    for name, requirement in required([*PROJECT["dependencies"], "edt-cli[test]"]).items():
        assert pinned[name] in requirement.specifier, name


@pytest.mark.skipif("EDT_TEST_PINNED" not in os.environ, reason="other versions may do as well")
def test_nothing_is_installed_beside_the_constraints():
    pinned = {canonicalize_name(pin.name): pin for pin in pins() if pin.marker is None or pin.marker.evaluate()}
    installed = {canonicalize_name(one.name): one.version for one in distributions()}
    beside = {
        name: version
        for name, version in installed.items()
        if name not in TOOLS and (name not in pinned or version not in pinned[name].specifier)
    }
    assert not beside


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a wheel that was built from the source package, as a package index would."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")

    def build(kind: str, source: Path) -> None:
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    build("sdist", ROOT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    build("wheel", folder / archive.name.removesuffix(".tar.gz"))
    return folder


def test_the_wheel_holds_all_that_edt_reads(built):
    (wheel,) = built.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for package in (APPLICATION, BACKENDS):
        files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        assert {path.relative_to(package.parent).as_posix() for path in files} <= held
    assert {"edt_cli/experiments/plans/table-2.toml", "edt_cli/presets/best.toml"} <= held
    assert {name.rpartition("/")[2] for name in held if "/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert {name.split("/")[0] for name in held} == {"edt_cli", "edt_backends", METADATA}


def test_the_source_package_holds_what_the_readme_names(built):
    source = built / f"edt_cli-{edt_cli.__version__}"
    links = re.findall(r"\]\(([^)#:\s]+)\)", (ROOT / "README.md").read_text("utf-8"))
    named = {*links, "constraints.txt", "NOTICE", "CITATION.cff", "CHANGELOG.md", "docs/installation.md", "tests"}
    assert len(links) > 10
    assert {name for name in named if not (source / name).exists()} == set()


def test_files_are_told_from_other_words():
    text = "sed -i 's/a/b/' pyproject.toml; .ci/run lint -c constraints.txt -e '.[test]' lowest-direct"
    assert {".ci/run", "constraints.txt", "pyproject.toml"} <= set(A_FILE.findall(text))


@pytest.mark.parametrize("path", [HOOKS, *WORKFLOWS], ids=lambda path: path.name)
def test_files_that_are_named_are_there(path):
    named = files(path)
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_hooks_run_what_the_tests_need():
    installed = required(EXTRAS["test"]).keys()
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
