"""`local`, the default backend: generation by retrieval, summaries by extraction.

It needs no key, no network and no LLM, and costs nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice, zip_longest
from typing import Any

from edt_backends.base import (
    BackendError,
    BackendSpec,
    Catalogue,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    Plugin,
    Usage,
)
from edt_backends.sentences import LocalEmbeddings

Inputs = Mapping[str, Any]

FIELDS = ("id", "title", "brand", "category", "description")
WORDS = 4
TITLES = 2
TITLE_CHARACTERS = 80
PROFILE_CHARACTERS = 400  # about 90 tokens, so that the profiles of all users are embedded in about a minute
WORD = re.compile(r"[^\W\d_]{3,}")


class LocalChat(ChatBackend):
    """Deterministic backend that answers the method's questions from `request.inputs`.

    It does not read messages, so its replies must not be cached by them.
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
        return {"backend": "local", "version": 2}

    async def complete(self, request: ChatRequest) -> ChatReply:
        answer = self._tasks.get(request.inputs.get("task", ""))
        if answer is None:
            raise BackendError(
                f"local is not an LLM and cannot answer the prompt {request.prompt}: choose a provider"
            )
        return ChatReply(json.dumps(answer(request.inputs), ensure_ascii=False), Usage(), self.name)

    def _generate(self, inputs: Inputs) -> dict[str, Any]:
        """Return training items of the target domain.

        First come those that best go with the source items, counted over users of both domains. If these are too
        few, the nearest item to each source text follows, then the second nearest to each, and so on; within a turn
        the best come first.
        """
        if self._catalogue is None:
            raise BackendError("local generates by retrieval and was given no catalogue to retrieve from")
        count = inputs["count"]
        domain, exclude = inputs["target_domain"], inputs["exclude"]
        chosen = {item["id"]: item for item in self._catalogue.companions(domain, inputs["items"], count, exclude)}
        if len(chosen) < count:
            neighbours = self._catalogue.similar(domain, inputs["texts"], count, exclude)
            turns = (
                sorted((item for item in turn if item is not None), key=lambda item: (-item["score"], item["id"]))
                for turn in zip_longest(*neighbours)
            )
            for item in chain.from_iterable(turns):
                chosen.setdefault(item["id"], item)
        return {"items": [{name: item[name] for name in FIELDS} for item in islice(chosen.values(), count)]}


def _summarize(inputs: Inputs) -> dict[str, Any]:
    return {
        "summaries": [
            {"cluster": cluster["cluster"], "summary": _extract(cluster["titles"])}
            for cluster in inputs["clusters"]
        ]
    }


def _reform(inputs: Inputs) -> dict[str, Any]:
    """Return the instruction unchanged, followed by frequent words of each domain."""
    domains = (f"{name} ({', '.join(_words(titles))})" for name, titles in inputs["domains"].items())
    return {"instruction": f"{inputs['instruction']} The domains: {'; '.join(domains)}."}


def _analyze(inputs: Inputs) -> dict[str, Any]:
    """Join the words of the summaries.

    Every domain gets the same share of the characters; the domain that the instruction names first comes first.
    """
    text = inputs["instruction"]
    domains = sorted(inputs["summaries"], key=lambda name: (name not in text, text.find(name)))
    return _profile({name: "; ".join(map(_first_sentence, inputs["summaries"][name])) for name in domains})


def _naive(inputs: Inputs) -> dict[str, Any]:
    return _profile({name: _extract(titles) for name, titles in inputs["titles"].items()})


def _profile(texts: Mapping[str, str]) -> dict[str, Any]:
    room = PROFILE_CHARACTERS // max(1, len(texts))
    return {
        "profile": " ".join(_clip(f"In {name}: {text}", room).rstrip(".") + "." for name, text in texts.items())
    }


def _extract(titles: Sequence[str]) -> str:
    """Shorten titles (oldest first) to their most frequent words and the latest titles."""
    latest = "; ".join(_clip(title, TITLE_CHARACTERS) for title in reversed(titles[-TITLES:]))
    words = " ".join(_words(titles))
    return f"{words}. Lately: {latest}" if words else latest


def _first_sentence(summary: str) -> str:
    return summary.partition(". Lately: ")[0]


def _words(titles: Iterable[str]) -> list[str]:
    """Return the words that occur in most titles; of equal ones the most recent first."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    seen: Counter[str] = Counter()
    for title in reversed([*titles]):
        seen.update(word for word in dict.fromkeys(WORD.findall(title.lower())) if word not in ENGLISH_STOP_WORDS)
    return [word for word, _ in seen.most_common(WORDS)]


def _clip(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1].rsplit(" ", 1)[0] + "…"


def _chat(spec: BackendSpec) -> ChatBackend:
    if spec.model is not None:
        raise BackendError(f"local is not an LLM and has no model {spec.model!r}: leave the model out")
    return LocalChat(spec.catalogue)


def _embeddings(spec: BackendSpec) -> EmbeddingBackend:
    return LocalEmbeddings(spec.model, spec.device)


plugin = Plugin(chat=_chat, embeddings=_embeddings)
