"""The backend contract: requests, replies, the two protocols, and plugins.

There are two small asynchronous protocols, `ChatBackend` and `EmbeddingBackend`. Caching, budgets and rate limits
are wrappers that implement the same protocol around any backend. Nothing here imports a provider's library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class BackendError(Exception):
    """Failure of a backend, as one line for the user: what is wrong and what to do.

    Args:
        message: The line.
        retryable: Whether the same request may succeed later (a timeout, an overload). Otherwise only a change by
            the user helps (a wrong key, an unknown model), so a run should stop.
        unbilled: Whether the request was rejected or never sent, so that it certainly cost nothing.
        only_this: Whether this request alone is at fault (it is too long): others may be sent, the same may not.
        unread: Whether there was a reply, perhaps a paid one, that cannot be read.
        status: HTTP status code.
        headers: The provider's response headers, by lower-case name.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        unbilled: bool = False,
        only_this: bool = False,
        unread: bool = False,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status = status
        self.unbilled = unbilled
        self.only_this = only_this
        self.unread = unread
        self.headers = headers or {}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """One question to a chat backend.

    Attributes:
        prompt: Name and version of the prompt, such as "generate@1".
        messages: The conversation so far.
        schema: JSON schema that the reply should follow.
        max_tokens: Most tokens that the reply may have.
        temperature: Sampling temperature.
        seed: Sampling seed.
        inputs: Structured facts that the messages were rendered from. A backend that is not an LLM answers from
            them; an LLM never sees them.
        user: Id of the user whose data the question contains. Like `inputs`, it never leaves the machine.
        shorter: Function that returns the same question about less, for a model to which this one is too long; None
            if nothing is left to leave out.
    """

    prompt: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    user: str | None = None
    shorter: Callable[[], ChatRequest | None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Usage:
    """Tokens and US dollars of one call; `cost_usd` is None if the price is unknown.

    `cached_tokens` are those of the prompt that the provider had read before, which are often cheaper.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    cached_tokens: int = 0


@dataclass(frozen=True)
class FurtherPrices:
    """Prices of a model beside the usual ones, in US dollars per token; None where there is none.

    Attributes:
        cached: A prompt token that the provider had read before.
        batch: A prompt token and a completion token of a batch job.
    """

    cached: float | None = None
    batch: tuple[float, float] | None = None


@dataclass(frozen=True)
class ChatReply:
    """One answer, exactly as the model gave it; the caller validates `text`.

    Attributes:
        text: The answer.
        usage: Tokens and cost of the answer when it was made.
        model: Model that answered.
        cached: Whether the answer came from the cache, so that nothing was spent now.
        finish_reason: OpenAI's reason: "stop", "length" or "content_filter".
        seconds: Time that the answer took when it was made, with all attempts; 0 if it was not measured.
        headers: The provider's response headers, by lower-case name.
    """

    text: str
    usage: Usage
    model: str
    cached: bool = False
    finish_reason: str = "stop"
    seconds: float = field(default=0.0, compare=False)
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class EmbeddingReply:
    """Vectors of a batch of texts.

    Attributes:
        vectors: Unit vectors, float32 [n, d], in the order of the texts.
        usage: Tokens and cost that were spent now.
        headers: The provider's response headers, by lower-case name.
    """

    vectors: Vectors
    usage: Usage
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


class EmbeddingCancelled(asyncio.CancelledError):
    """Cancellation of `EmbeddingBackend.embed` after some of its texts.

    Attributes:
        vectors: Vectors of the first texts that were finished, by text.
    """

    def __init__(self, vectors: Mapping[str, Vectors]) -> None:
        super().__init__()
        self.vectors = vectors


class ChatBackend(Protocol):
    """Protocol of a backend that answers a `ChatRequest`.

    Subclass it to inherit the defaults, or implement the same methods.

    Attributes:
        name: Name shown to the user.
        paid: Whether calls cost money.
        cacheable: False if a reply depends on more than `identity()` and the request's messages and parameters (for
            example on `inputs`), so that it must not be cached.
        thinking_tokens: Tokens that the model may need to think, beside those of its answer.
    """

    name: str
    paid: bool = False
    cacheable: bool = True
    thinking_tokens: int = 0

    def identity(self) -> dict[str, Any]:
        """Return all that can change a reply (model, address): JSON values, no secrets."""
        ...

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer a request.

        Raises:
            BackendError: If there is no answer.
        """
        ...

    def price_per_token(self) -> tuple[float, float] | None:
        """Return US dollars per prompt token and per completion token; None if unknown."""
        return None if self.paid else (0.0, 0.0)

    def further_prices(self) -> FurtherPrices:
        """Return the model's prices for cached prompts and for batches, where they are known."""
        return FurtherPrices()

    def status(self) -> dict[str, Any]:
        """Return counters for progress displays: JSON values.

        A wrapper adds its counters to those of the backend that it wraps.
        """
        return {}

    def batches(self) -> BatchClient | None:
        """Return the provider's batch jobs; None if it has none."""
        return None

    def reject(self, request: ChatRequest) -> None:
        """Reject the reply to a request as unusable (malformed, cut off, refused).

        A cached reply is set aside, its cost still on record, so that the next `complete` asks again.
        """
        return

    def halt(self) -> None:
        """End the calls that wait for their turn or for another attempt; those that are sent go on."""
        return

    def set_aside(self, request: ChatRequest) -> Sequence[ChatReply]:
        """Return the replies to a request that were rejected, if no other is in the cache, newest first."""
        return ()

    def asks_again(self, request: ChatRequest) -> bool:
        """Return whether an unusable reply is to be rejected and asked for again.

        It is if it was given to an earlier command, and the user wants to ask failed questions again.
        """
        return False


@dataclass(frozen=True)
class JobState:
    """How a batch job stands.

    Attributes:
        status: The provider's word for it.
        ended: Whether nothing more will be answered.
        done: Number of questions that are answered.
    """

    status: str
    ended: bool
    done: int = 0


class BatchClient(Protocol):
    """Protocol of a provider's batch jobs: many requests at once, answered within a day at a lower price.

    All methods but the first raise BackendError.
    """

    def price_per_token(self) -> tuple[float, float] | None:
        """Return US dollars per prompt token and per completion token of a job; None if unknown."""
        ...

    async def submit(self, name: str, requests: Mapping[str, ChatRequest]) -> str:
        """Send requests, by key, as a job of a name that is used once; return the provider's id of it."""
        ...

    async def find(self, name: str) -> str | None:
        """Return the id of the job of a name; None if the provider has none."""
        ...

    async def state(self, job: str) -> JobState:
        """Return how a job stands."""
        ...

    async def replies(self, job: str) -> dict[str, ChatReply | BackendError]:
        """Return the replies of a job that has ended, by key; a question that was not answered has none."""
        ...


class TextMap(Protocol):
    """Protocol of a map from texts to vectors that is fitted to a corpus.

    The fitted map depends only on the corpus and on `identity()`. It must not be saved as a pickle: nothing that is
    loaded may run code.

    Attributes:
        dimension: Length of a vector.
    """

    dimension: int

    @classmethod
    def identity(cls) -> dict[str, Any]:
        """Return all but the corpus that can change the map, such as a version: JSON values."""
        ...

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Self:
        """Fit the map to a corpus, which may be small or empty."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a saved map; its vectors are the same to the last digit.

        Raises:
            BackendError: If its files are damaged.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the map into a folder."""
        ...

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [n, dimension], one row for each text.

        A row has length one, or is zero if the map knows nothing about the text. It depends on its text alone.
        """
        ...


class EmbeddingBackend(Protocol):
    """Protocol of a backend that turns texts into unit vectors.

    Attributes:
        name: Name shown to the user.
        paid: Whether calls cost money.
        batch_size: Texts that one call should contain.
        text_map: Class of a map that is fitted to the catalogue and whose vectors are appended to those of `embed`;
            None if there is none. `wrappers.MappedEmbeddings` joins the two; `identity` and `embed` leave it out.
    """

    name: str
    paid: bool = False
    batch_size: int = 256
    text_map: type[TextMap] | None = None

    @property
    def dimension(self) -> int | None:
        """Length d of a vector; None until the first call if it is not known before."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return all that can change a vector (model, weights, address): JSON values, no secrets."""
        ...

    def prepare(self, texts: Sequence[str]) -> None:
        """Load what `embed` needs for these texts, where Ctrl-C takes effect at once."""
        return

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        """Embed n non-empty texts as float32 [n, d]; a vector depends on its text alone.

        Raises:
            BackendError: If there are no vectors.
            EmbeddingCancelled: If it is cancelled when some of the texts are finished.
        """
        ...

    def price_per_token(self) -> float | None:
        """Return US dollars per token; None if unknown."""
        return None if self.paid else 0.0

    def status(self) -> dict[str, Any]:
        """Return counters for progress displays, as `ChatBackend.status` does."""
        return {}


class Catalogue(Protocol):
    """Protocol of the training items that `local` retrieves from; the application provides it.

    An item has the keys "id", "title", "brand", "category" and "description"; an item from `similar` also has
    "score", a cosine.
    """

    def companions(
        self, domain: str, items: Sequence[str], count: int, exclude: Collection[str]
    ) -> list[Mapping[str, Any]]:
        """Return the training items of a domain that best go with items of other domains.

        How well they go together is counted over the users of both domains.

        Args:
            domain: Name of the domain to retrieve from.
            items: Ids of items of other domains.
            count: Most items to return.
            exclude: Ids to leave out.

        Returns:
            The items, best first.
        """
        ...

    def similar(
        self, domain: str, texts: Sequence[str], count: int, exclude: Collection[str]
    ) -> list[list[Mapping[str, Any]]]:
        """Return up to `count` nearest training items of a domain for each text.

        The nearest come first; ids in `exclude` are left out.
        """
        ...


@dataclass(frozen=True)
class BackendSpec:
    """The user's choice of a backend and its options.

    Attributes:
        model: The part after the plugin's name, such as "qwen.gguf" in "llamacpp/qwen.gguf".
        api_base: Address of a server in place of the provider's.
        timeout: Seconds to wait for one answer; None leaves it to the backend.
        device: Device to compute embeddings on.
        catalogue: Training items to retrieve from.
        dry: Whether nobody will be called, so that no key is needed.
        extra: Further parameters of each call to an LLM, by the provider's names; they are part of its identity.
        structured: Whether to ask an LLM for structured output; without it, the prompt alone says the form.
    """

    model: str | None = None
    api_base: str | None = None
    timeout: float | None = None
    device: str = "cpu"
    catalogue: Catalogue | None = None
    dry: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    structured: bool = True


@dataclass(frozen=True)
class Plugin:
    """Object that an entry point of the group `edt.backends` refers to.

    The entry point's name is the provider's name on the command line. Leave out what the backend does not offer.
    Both functions raise BackendError, before any call is made, if they cannot serve a request (a missing key, an
    unknown model).
    """

    chat: Callable[[BackendSpec], ChatBackend] | None = None
    embeddings: Callable[[BackendSpec], EmbeddingBackend] | None = None
