from __future__ import annotations

import subprocess
import sys

import pytest

from edt_backends.base import BackendError
from edt_backends.registry import chat_backend, embedding_backend, provider_names, unknown_provider

ECHO = """
from edt_backends.base import ChatBackend, ChatReply, Plugin, Usage

class Echo(ChatBackend):
    def __init__(self, spec):
        self.spec, self.name = spec, "echo"
    def identity(self):
        return {"backend": "echo"}
    async def complete(self, request):
        return ChatReply(request.messages[-1].content, Usage(), "echo")

plugin = Plugin(chat=Echo)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution on the path as pip would: a module, and metadata with the entry point."""

    def install(package: str, entry_point: str, module: str, source: str) -> None:
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[edt.backends]\n{entry_point}\n")
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)

    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_names_come_without_an_import(install):
    install("edt-echo", "echo = echo_backend:plugin", "echo_backend", ECHO)
    names = provider_names()
    assert names[0] == "local"
    assert {"local", "echo", "deepseek", "gpt-3.5", "ollama"} == set(names)
    assert "echo_backend" not in sys.modules


def test_the_contract_and_the_registry_start_light():
    code = "import sys, edt_backends.registry as r; r.provider_names(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"litellm", "torch", "transformers", "sentence_transformers", "sklearn", "diskcache"} & set(loaded)


def test_a_third_party_backend_answers_to_its_name(install):
    install("edt-echo", "echo = echo_backend:plugin", "echo_backend", ECHO)
    backend = chat_backend("echo", "big", "http://localhost:1")
    assert (backend.spec.model, backend.spec.api_base) == ("big", "http://localhost:1")
    assert chat_backend("echo/a/b").spec.model == "a/b"
    assert chat_backend("echo").spec.model is None
    with pytest.raises(BackendError, match="'echo' makes no embeddings"):
        embedding_backend("echo")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import no_such_module", "'bad' of edt-bad cannot be loaded: No module named 'no_such_module'"),
        ("plugin = print", "'bad' of edt-bad is not an edt_backends.base.Plugin"),
    ],
)
def test_a_broken_backend_is_one_line(install, source, problem):
    install("edt-bad", "bad = bad_backend:plugin", "bad_backend", source)
    with pytest.raises(BackendError, match=problem):
        chat_backend("bad")


def test_two_packages_for_one_name_are_refused(install):
    install("edt-other", "local = other_backend:plugin", "other_backend", ECHO)
    with pytest.raises(BackendError, match=r"several packages name a backend 'local' \(edt-cli, edt-other\)"):
        chat_backend("local")


@pytest.mark.parametrize("provider", ["nonesuch", "openai", ""])
def test_an_unknown_provider_lists_what_there_is(provider):
    with pytest.raises(BackendError) as caught:
        chat_backend(provider)
    assert str(caught.value) == (
        f"unknown provider {provider!r}: there are local, deepseek, gpt-3.5, ollama, "
        "and any PROVIDER/MODEL that litellm knows, such as openai/gpt-4o-mini"
    )


@pytest.mark.parametrize(
    ("provider", "model", "problem"),
    [
        ("ollama", None, "needs a model"),
        ("openai/gpt-4o-mini", "gpt-4o", "give only one"),
        ("local", "gpt-4o", "local is not an LLM and has no model 'gpt-4o'"),
        ("litellm", None, "needs a model"),
    ],
)
def test_models_that_are_missing_or_too_many(provider, model, problem):
    with pytest.raises(BackendError, match=problem):
        chat_backend(provider, model)


def test_a_mistyped_provider_is_told_the_one_that_is_meant():
    assert str(unknown_provider("deepsek")) == "unknown provider 'deepsek': did you mean deepseek?"
    assert "there are local, " in str(unknown_provider("nonesuch"))
