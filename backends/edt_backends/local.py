"""`local`, the default: no key, no network, no cost, and no LLM. Generation by retrieval, summaries by extraction."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, zip_longest
from typing import Any

from edt_backends.base import BackendError, BackendSpec, Catalogue, ChatBackend, ChatReply, ChatRequest, Plugin, Usage
from edt_backends.sentences import SentenceEmbeddings

FIELDS = ("id", "title", "brand", "category", "description")
WORDS = 6
TITLE_CHARACTERS = 80
PROFILE_CHARACTERS = 900
"""About what an embedder of 256 tokens reads."""

Inputs = Mapping[str, Any]


class LocalChat(ChatBackend):
    """Answers each of the method's questions from `request.inputs`, the same answer every time.

    It reads inputs, not messages, so its replies are not to be cached by messages.
    """

    name = "local (no LLM)"
    cacheable = False

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self._catalogue = catalogue
        self._tasks: dict[str, Callable[[Inputs], dict[str, Any]]] = {
            "generate": self._generate,
            "summarize": _summarize,
            "reform": _reform,
            "analyze": _analyze,
            "naive": _naive,
        }

    def identity(self) -> dict[str, Any]:
        return {"backend": "local", "version": 1}

    async def complete(self, request: ChatRequest) -> ChatReply:
        task = self._tasks.get(request.inputs.get("task", ""))
        if task is None:
            raise BackendError(f"local is no LLM and cannot answer the prompt {request.prompt}; choose a provider")
        return ChatReply(json.dumps(task(request.inputs), ensure_ascii=False), Usage(), self.name)

    def _generate(self, inputs: Inputs) -> dict[str, Any]:
        """Training items of the target domain near the source texts, in turn: the nearest of each text, then the
        second of each, and so on; within a turn the best first."""
        if self._catalogue is None:
            raise BackendError("local generates by retrieval and was given no catalogue to retrieve from")
        found = self._catalogue.similar(
            inputs["target_domain"], inputs["texts"], inputs["count"], inputs["exclude"]
        )
        turns = (
            sorted((item for item in turn if item), key=lambda item: (-item["score"], item["id"]))
            for turn in zip_longest(*found)
        )
        chosen = {item["id"]: item for item in reversed([*chain.from_iterable(turns)])}
        best = list(reversed(chosen.values()))[: inputs["count"]]
        return {"items": [{name: item[name] for name in FIELDS} for item in best]}
