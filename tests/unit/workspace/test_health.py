"""What is broken, slow or missing here, and what mends it."""

import os

import pytest

from edt_cli.workspace import health
from edt_cli.workspace.health import findings
from edt_cli.workspace.layout import Workspace

MACHINE = {"cores": 4, "flags": ["avx2", "avx512f"]}
KEYS = {"OPENAI_API_KEY": True}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(health, "driver", lambda: False)
    monkeypatch.setattr(health, "cuda_of_torch", lambda: None)
    monkeypatch.setattr(health.platform, "machine", lambda: "x86_64")


def told(workspace, machine=MACHINE, keys=KEYS, environment=None):
    # The encoding of a captured stdout is not what this is about.
    found = findings(workspace, machine, keys, environment or {})
    return {f"{one.level}: {one.what}": one.mend for one in found if "encoding" not in one.what}


def test_nothing_is_wrong_with_a_new_place_on_a_good_machine(tmp_path):
    assert told(Workspace(tmp_path / "new")) == {}


@pytest.mark.parametrize(
    ("environment", "level", "what", "mend"),
    [
        ({"OMP_NUM_THREADS": "9"}, "slow", "9 on 4 cores: threads wait", "unset"),
        ({"OMP_NUM_THREADS": "1"}, "slow", "1 on 4 cores: the other cores idle", "unset"),
        ({"EDT_TRAINING_LRR": "1"}, "doubtful", "EDT_TRAINING_LRR is set and is no setting", "EDT_TRAINING_LR"),
        ({"TERM": "dumb"}, "missing", "no live view", "TERM="),
        ({"NO_COLOR": "1"}, "missing", "no colour", "unset NO_COLOR"),
    ],
)
def test_the_environment(tmp_path, environment, level, what, mend):
    ((said, mends),) = told(Workspace(tmp_path), environment=environment).items()
    assert said.startswith(level) and what in said and mend in mends


def test_settings_and_other_variables_of_the_environment_are_fine(tmp_path):
    names = ("EDT_TRAINING_LR", "EDT_LLM_MAX_TOKENS", "EDT_OPTIONS_ALPHA", "EDT_WORKSPACE", "EDT_KERNELS")
    assert told(Workspace(tmp_path), environment=dict.fromkeys(names, "1")) == {}


def test_a_cpu_without_avx512_is_slow_and_one_that_is_not_known_is_not_blamed(tmp_path):
    assert any("AVX-512" in what for what in told(Workspace(tmp_path), {"cores": 4, "flags": ["avx2"]}))
    assert told(Workspace(tmp_path), {"cores": 4, "flags": []}) == {}


def test_a_key_is_not_needed_and_missed(tmp_path):
    ((said, mend),) = told(Workspace(tmp_path), keys={"DEEPSEEK_API_KEY": False}).items()
    assert said.startswith("missing") and "local" in mend


def test_gpus_and_the_build_of_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "cuda_of_torch", lambda: "12.8")
    ((said, mend),) = told(Workspace(tmp_path)).items()
    assert "CUDA 12.8" in said and "whl/cpu" in mend
    monkeypatch.setattr(health, "cuda_of_torch", lambda: None)
    monkeypatch.setattr(health, "driver", lambda: True)
    assert any("torch is the build for CPUs" in what for what in told(Workspace(tmp_path)))


def test_a_workspace_that_is_a_file_or_full_is_broken(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    ((said, mend),) = told(Workspace(tmp_path / "file")).items()
    assert said.startswith("broken") and "is no folder" in said and "--workspace" in mend
    monkeypatch.setattr(health, "free_bytes", lambda workspace: 1e6)
    assert any(what.startswith("broken: 0.0 GB are free") for what in told(Workspace(tmp_path)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workspace_that_cannot_be_written_is_broken(tmp_path):
    tmp_path.chmod(0o500)
    assert any("cannot be written" in what for what in told(Workspace(tmp_path)))


def test_packages_that_are_missing(tmp_path, monkeypatch):
    wanted = ["numpy>=1", "nonesuch-a>=2", "nonesuch-b>=1; extra == 'search'", "nonesuch-c; extra == 'test'"]
    monkeypatch.setattr(health, "requires", lambda package: wanted)
    found = told(Workspace(tmp_path))
    assert found["broken: nonesuch-a is not installed"] == "pip install 'nonesuch-a>=2'"
    assert found["missing: the extra `search` is not installed (nonesuch-b)"] == "pip install 'edt-cli[search]'"
    assert len(found) == 2
