"""The contract: what a backend is asked, what it answers, and what a plugin hands over.

Two small asynchronous protocols, `ChatBackend` and `EmbeddingBackend`. Whatever remembers, prices or paces is a
wrapper that fulfils the same protocol around any backend. Nothing here imports a provider's library.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class BackendError(Exception):
    """One clear line for the user: what is wrong and what to do about it.

    `retryable` says that the same request may well succeed later (a timeout, an overload); without it nothing but
    a change by the user helps (a wrong key, an unknown model), so a run should stop. `unbilled`: the request was
    turned away or never left, so it certainly cost nothing. `status` is HTTP's, `headers` are the provider's, by
    lower-case name.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        unbilled: bool = False,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status = status
        self.unbilled = unbilled
        self.headers = headers or {}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """One question.

    `prompt` is the prompt's name and version ("generate@1"); `schema` the JSON schema that the reply should
    hold to. `inputs` are the structured facts that the messages were rendered from: a backend that is no LLM
    answers from them, an LLM never sees them. `user` is whose data it is; it leaves the machine no more than
    `inputs` does.
    """

    prompt: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    user: str | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens and US dollars of one call; `cost_usd` is None where the price is not known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True)
class ChatReply:
    """One answer, as the model gave it: the caller validates `text`.

    `usage` is what the answer cost when it was made; with `cached` nothing was spent now. `finish_reason` is
    OpenAI's ("stop", "length", "content_filter"). `headers` are the provider's, by lower-case name.
    """

    text: str
    usage: Usage
    model: str
    cached: bool = False
    finish_reason: str = "stop"
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class EmbeddingReply:
    """`vectors` is float32 [n, d], each of length one, in the order of the texts; `usage` is what was spent now.

    `headers` are the provider's, by lower-case name.
    """

    vectors: Vectors
    usage: Usage
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


class ChatBackend(Protocol):
    """Something that answers a `ChatRequest`. Subclass it for the defaults, or just look like it.

    `name` is what the user is shown. `cacheable` is False where a reply depends on more than `identity()` and the
    request's messages and parameters (a backend that reads `inputs`), so that it must not be remembered.
    """

    name: str
    paid: bool = False
    cacheable: bool = True

    def identity(self) -> dict[str, Any]:
        """Everything of the backend that can change a reply (model, address), no secret; JSON values only."""
        ...

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer, or raise BackendError."""
        ...

    def price_per_token(self) -> tuple[float, float] | None:
        """US dollars for a prompt token and for a completion token; None where the price is not known."""
        return None if self.paid else (0.0, 0.0)

    def status(self) -> dict[str, Any]:
        """Counters for whoever watches; a wrapper adds its own to those of what it wraps. JSON values only."""
        return {}

    def reject(self, request: ChatRequest) -> None:
        """The reply to this request was no answer (malformed, cut off, refused): one that was remembered is set
        aside, its cost still on record, so that the next `complete` asks again."""
        return


class TextMap(Protocol):
    """Further numbers of a text, by a map that is fitted to a corpus: a function of the texts that the corpus has.

    `dimension` is how many. What is kept is no pickle: nothing that is loaded can run code.
    """

    dimension: int

    @classmethod
    def identity(cls) -> dict[str, Any]:
        """Everything beside the corpus that can change the map, such as a version; JSON values only."""
        ...

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Self:
        """The map of a corpus, whose texts may be few, or none."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The map that `save` kept, to the digit. BackendError where it is damaged."""
        ...

    def save(self, folder: Path) -> None: ...

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """float32 [n, dimension] of any texts: rows of length one, or of zeros where the map has nothing to say.
        A row depends on its own text alone."""
        ...


class EmbeddingBackend(Protocol):
    """Something that turns texts into unit vectors. `batch_size` is how many texts one call should carry.

    `text_map`: what is to be fitted to the catalogue, and stand beside the vectors of `embed`, where there is such.
    `wrappers.MappedEmbeddings` joins the two; `identity` and `embed` are without it.
    """

    name: str
    paid: bool = False
    batch_size: int = 256
    text_map: type[TextMap] | None = None

    @property
    def dimension(self) -> int | None:
        """d of the vectors; None as long as only a first call can tell."""
        ...

    def identity(self) -> dict[str, Any]:
        """Everything of the backend that can change a vector (model, weights, address), no secret; JSON only."""
        ...

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        """Vectors float32 [n, d] of n non-empty texts, or BackendError. A vector depends on its own text alone."""
        ...

    def price_per_token(self) -> float | None:
        """US dollars for a token; None where the price is not known."""
        return None if self.paid else 0.0

    def status(self) -> dict[str, Any]:
        """As `ChatBackend.status`."""
        return {}


class Catalogue(Protocol):
    """The training items that `local` retrieves from; the application hands one in.

    An item is {"id", "title", "brand", "category", "description"}, one of `similar` has a "score" too, a cosine.
    """

    def companions(
        self, domain: str, items: Sequence[str], count: int, exclude: Collection[str]
    ) -> list[Mapping[str, Any]]:
        """Up to `count` training items of the domain, none of `exclude`, that go best with `items` (ids, of other
        domains) by what users have who are in both domains, best first."""
        ...

    def similar(
        self, domain: str, texts: Sequence[str], count: int, exclude: Collection[str]
    ) -> list[list[Mapping[str, Any]]]:
        """For each text up to `count` nearest training items of the domain, best first, none of `exclude`."""
        ...


@dataclass(frozen=True)
class BackendSpec:
    """What the user asked for: `model` is what stands after the plugin's name ("llamacpp/qwen.gguf").

    `timeout`: seconds for one answer; None leaves it to the backend.
    """

    model: str | None = None
    api_base: str | None = None
    timeout: float | None = None
    device: str = "cpu"
    catalogue: Catalogue | None = None


@dataclass(frozen=True)
class Plugin:
    """What an entry point of the group `edt.backends` names; leave out what the backend does not offer.

    The entry point's name is the provider's name on the command line. Both functions raise BackendError for what
    they cannot serve (a missing key, an unknown model), before any call is made.
    """

    chat: Callable[[BackendSpec], ChatBackend] | None = None
    embeddings: Callable[[BackendSpec], EmbeddingBackend] | None = None
