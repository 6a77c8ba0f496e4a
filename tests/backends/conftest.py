from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    """What the developer's own environment says about providers must decide no test."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "DEEPSEEK_", "OLLAMA_")):
            monkeypatch.delenv(name)
