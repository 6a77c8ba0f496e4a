"""`local`, the default: no key, no network, no cost, no LLM. Generation by retrieval, summaries by extraction."""

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
PROFILE_CHARACTERS = 400  # about 90 tokens: a profile for every user is to be embedded in a minute or so
WORD = re.compile(r"[^\W\d_]{3,}")


class LocalChat(ChatBackend):
    """Answers the method's questions from `request.inputs`, always the same.

    It does not read messages, so its replies must not be remembered by them.
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
            raise BackendError(f"local is no LLM and cannot answer the prompt {request.prompt}: choose a provider")
        return ChatReply(json.dumps(answer(request.inputs), ensure_ascii=False), Usage(), self.name)

    def _generate(self, inputs: Inputs) -> dict[str, Any]:
        """Training items of the target domain: those that go best with the source items by what users of both
        domains have. Where these are too few: the nearest of each source text, then the second of each, and so on;
        within a turn the best first."""
        if self._catalogue is None:
            raise BackendError("local generates by retrieval and was given no catalogue to retrieve from")
        count = inputs["count"]
        domain, exclude = inputs["target_domain"], inputs["exclude"]
        chosen = {item["id"]: item for item in self._catalogue.companions(domain, inputs["items"], count, exclude)}
        if len(chosen) < count:
            found = self._catalogue.similar(domain, inputs["texts"], count, exclude)
            turns = (
                sorted((item for item in turn if item is not None), key=lambda item: (-item["score"], item["id"]))
                for turn in zip_longest(*found)
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
    """The instruction as it is, and what the domains sell."""
    domains = (f"{name} ({', '.join(_words(titles))})" for name, titles in inputs["domains"].items())
    return {"instruction": f"{inputs['instruction']} The domains: {'; '.join(domains)}."}


def _analyze(inputs: Inputs) -> dict[str, Any]:
    """The words of the summaries. Every domain has the same room, however many purchases stand behind it; the one
    that the instruction names first leads."""
    said = inputs["instruction"]
    domains = sorted(inputs["summaries"], key=lambda name: (name not in said, said.find(name)))
    return _profile({name: "; ".join(map(_first_sentence, inputs["summaries"][name])) for name in domains})


def _naive(inputs: Inputs) -> dict[str, Any]:
    return _profile({name: _extract(titles) for name, titles in inputs["titles"].items()})


def _profile(said: Mapping[str, str]) -> dict[str, Any]:
    room = PROFILE_CHARACTERS // max(1, len(said))
    return {"profile": " ".join(_clip(f"In {name}: {text}", room).rstrip(".") + "." for name, text in said.items())}


def _extract(titles: Sequence[str]) -> str:
    """Titles, oldest first, in short: their most frequent words, then the latest ones."""
    latest = "; ".join(_clip(title, TITLE_CHARACTERS) for title in reversed(titles[-TITLES:]))
    words = " ".join(_words(titles))
    return f"{words}. Lately: {latest}" if words else latest


def _first_sentence(summary: str) -> str:
    return summary.partition(". Lately: ")[0]


def _words(titles: Iterable[str]) -> list[str]:
    """The words that most titles have, the later seen first among equals."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    seen: Counter[str] = Counter()
    for title in reversed([*titles]):
        seen.update(word for word in dict.fromkeys(WORD.findall(title.lower())) if word not in ENGLISH_STOP_WORDS)
    return [word for word, _ in seen.most_common(WORDS)]


def _clip(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1].rsplit(" ", 1)[0] + "…"


def _chat(spec: BackendSpec) -> ChatBackend:
    if spec.model is not None:
        raise BackendError(f"local is no LLM and has no model {spec.model!r}: leave the model out")
    return LocalChat(spec.catalogue)


def _embeddings(spec: BackendSpec) -> EmbeddingBackend:
    return LocalEmbeddings(spec.model, spec.device)


plugin = Plugin(chat=_chat, embeddings=_embeddings)
