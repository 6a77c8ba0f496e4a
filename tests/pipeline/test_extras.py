"""What is left out of a bare install is named with its command, and nothing else misses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edt_backends import endpoint
from edt_backends.base import BackendError
from edt_backends.registry import chat_backend, embedding_backend

ABSENT = ("litellm", "optuna", "pynvml", "fastapi", "uvicorn")
LLM = "pip install 'edt-cli[llm]'"
SEARCH = "pip install 'edt-cli[search]'"


def bare(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `edt` where no extra is installed."""
    code = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); sys.argv[0] = 'edt'"
    return subprocess.run(
        [sys.executable, "-c", f"{code}; from edt_cli.cli.app import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "EDT_WORKSPACE": str(folder), "COLUMNS": "200", **environment},
    )


@pytest.fixture
def without_litellm(monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)
    endpoint.library.cache_clear()
    yield
    endpoint.library.cache_clear()


@pytest.mark.parametrize("name", ["deepseek", "gpt-3.5", "openai/gpt-4o-mini", "litellm/openai/gpt-4o-mini"])
def test_a_provider_without_litellm_is_one_line(without_litellm, name):
    with pytest.raises(BackendError) as error:
        chat_backend(name)
    assert str(error.value).endswith(LLM)


def test_an_embedder_without_litellm_is_one_line(without_litellm):
    with pytest.raises(BackendError) as error:
        embedding_backend("openai/text-embedding-3-small")
    assert str(error.value).endswith(LLM)
    assert embedding_backend("local").dimension == 384


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("train", "--data", "demo", "--provider", "deepseek", "--yes"), LLM),
        (("profile", "--data", "demo", "--embedder", "openai/text-embedding-3-small", "--yes"), LLM),
        (("search", "best", "--data", "demo"), SEARCH),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_command_without_its_extra_is_one_line(tmp_path, command, says):
    done = bare(*command, folder=tmp_path)
    assert done.returncode == 1 and not done.stdout
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: ") and last.endswith(says)
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
def test_providers_are_listed_without_litellm(tmp_path):
    listed = json.loads(bare("providers", "--json", folder=tmp_path, OPENAI_API_KEY="none").stdout)["providers"]
    problems = {row["provider"]: row["problem"] for row in listed}
    assert problems.pop("local") is None
    assert all(problems[name].endswith(LLM) for name in ("deepseek", "gpt-3.5"))
    shown = bare("providers", folder=tmp_path)
    assert shown.stdout.count("see below") == 2 and shown.stderr.strip().endswith(LLM)


@pytest.mark.e2e
def test_help_and_completion_need_no_extra(tmp_path):
    for command in ("--help", "search --help", "train --help"):
        assert bare(*command.split(), folder=tmp_path).returncode == 0
    words = {"_EDT_COMPLETE": "complete_bash", "COMP_WORDS": "edt sea", "COMP_CWORD": "1"}
    done = bare(folder=tmp_path, **words)
    assert (done.stdout.split(), done.stderr) == (["search"], "")


@pytest.mark.e2e
def test_local_needs_no_extra(tmp_path):
    done = bare("compare", "demo", "--dry-run", "--json", folder=tmp_path)
    assert done.returncode == 0 and len(json.loads(done.stdout)["cells"]) == 5
