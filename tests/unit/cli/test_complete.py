"""What the shell completes, by the protocol that its script speaks."""

import os
import subprocess
import sys

import pytest

from edt_cli.cli import complete
from edt_cli.workspace.annotations import Annotations, annotate
from edt_cli.workspace.layout import Workspace, write_json

EDT = "import sys; sys.argv = ['edt']; from edt_cli.cli.app import main; main()"
HEAVY = "import atexit; atexit.register(lambda: 'torch' in sys.modules and print('torch'));"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    place = Workspace(tmp_path_factory.mktemp("workspace"))
    with place.dataset("mine").create(data_key="k"):
        pass
    for name in ("mine-sasrec-s42-aaaa1111", "mine-abxi-s42-bbbb2222"):
        (place.runs / name).mkdir(parents=True)
        write_json(place.runs / name / "run.json", {"key": name[-8:]})
    annotate(place.runs / "mine-abxi-s42-bbbb2222", Annotations("best-one", ("paper",)))
    (place.runs / "mine-abxi-s42-bbbb2222" / "run.json").write_text("{")
    return place


def bash(line: str, workspace: Workspace, **environment: str) -> list[str]:
    """Completions of the last word of a line, of which none may import torch or say anything on stderr."""
    shell = {"_EDT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {HEAVY} {EDT}"],
        capture_output=True,
        text=True,
        env={**os.environ, "EDT_WORKSPACE": str(workspace.root), **shell, **environment},
        timeout=60,
    )
    assert not done.stderr and done.returncode == 0
    return done.stdout.split()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("edt do", {"doctor"}),
        ("edt train --model sa", {"sasrec"}),
        ("edt train --preset sasrec-", {"sasrec-ce"}),
        ("edt train --data ", {"mine", "demo"}),
        ("edt data prepare food", {"food-kitchen"}),
        ("edt train --loss bpr", {"bpr", "bpr-max"}),
        ("edt train --provider o", {"ollama"}),
        ("edt train --set training.lr", {"training.lr="}),
        ("edt eval --run best", {"best-one"}),
        ("edt runs show mine-s", {"mine-sasrec-s42-aaaa1111"}),
        ("edt runs list --tag p", {"paper"}),
        ("edt report --format m", {"markdown"}),
        ("edt settings evaluation.p", {"evaluation.protocol"}),
        ("edt eval --workspace /nowhere --run ", set()),
    ],
)
def test_bash_completes(line, found, workspace):
    assert set(bash(line, workspace)) == found


@pytest.mark.e2e
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_a_value_after_its_setting(shell, workspace):
    environment = {"_EDT_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    found = bash("", workspace, **environment, _TYPER_COMPLETE_ARGS="edt train --set training.loss=bpr-")
    assert "training.loss=bpr-max" in " ".join(found)


class Broken:
    """A context that fails whatever it is asked."""

    def __getattr__(self, name):
        raise RuntimeError


@pytest.mark.parametrize("values", [complete.datasets, complete.runs, complete.tags])
def test_what_fails_completes_nothing(values):
    assert values(Broken(), "") == []


def test_a_setting_that_there_is_not_has_no_values():
    assert complete.assignments(Broken(), "training.zzz=") == []
    assert complete.assignments(Broken(), "model.zero_start=") == [
        "model.zero_start=true",
        "model.zero_start=false",
    ]
