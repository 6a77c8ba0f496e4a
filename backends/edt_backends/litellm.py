"""Backends for every provider that litellm supports.

Importing litellm takes seconds, so it is imported only when one of its models is used.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from edt_backends.base import (
    BackendError,
    BackendSpec,
    BatchClient,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
    FurtherPrices,
    Plugin,
    Usage,
)
from edt_backends.endpoint import Endpoint, error_body, library, rate_limits, unlogged, warm
from edt_backends.litellm_batches import LiteLLMBatches
from edt_backends.reply_times import ReplyTimes

MOST_CHANGES = 8
SUBSTITUTES = {"max_tokens": "max_completion_tokens", "temperature": "", "seed": ""}
"""What is sent in place of a parameter that a model does not take."""
FORMAT = re.compile(r"response_format|json_schema|json_object|minItems|maxItems|additionalProperties|guided_")


class LiteLLMChat(ChatBackend):
    """Chat model by litellm's name, such as deepseek/deepseek-chat.

    Replies are requested as structured output; if a server does not support a form, the next simpler one is tried.
    A parameter that it refuses by name is left out, or renamed, from then on.
    """

    def __init__(self, spec: BackendSpec) -> None:
        self._endpoint = Endpoint.find(spec, chat=True)
        self.name = self._endpoint.name
        self.paid = self._endpoint.price() != (0.0, 0.0)
        schemas = self._endpoint.address is not None or self._endpoint.free
        self._extra, self._structured = dict(spec.extra), spec.structured
        self._simpler = 0 if schemas or library().supports_response_schema(self._endpoint.model) else 1
        self.thinking_tokens = self._endpoint.thinking_tokens()
        self._names: dict[str, str] = {}
        self._streams, self._notes, self._times = False, list[str](), ReplyTimes()

    def identity(self) -> dict[str, Any]:
        extra = {"extra": self._extra} if self._extra else {}
        return self._endpoint.identity() | extra | ({} if self._structured else {"structured": False})

    def price_per_token(self) -> tuple[float, float] | None:
        return self._endpoint.price()

    def further_prices(self) -> FurtherPrices:
        return self._endpoint.further_prices()

    def status(self) -> dict[str, Any]:
        return {"notes": list(self._notes)} if self._notes else {}

    async def complete(self, request: ChatRequest) -> ChatReply:
        unlogged()
        warm()
        for _ in range(MOST_CHANGES):
            form = self._form
            try:
                reply = await self._send(request)
                break
            except Exception as error:  # litellm's exceptions share no base class
                if _is_refusal(error):
                    return ChatReply(text="", usage=Usage(), model=self.name, finish_reason="content_filter")
                # Another call may have changed the form meanwhile.
                if self._form == form and not self._adapt(error, request):
                    raise self._endpoint.error(error) from None
        else:
            raise BackendError(f"{self.name}: the server refuses every form of request that is known here")
        return self.reply_of(reply)

    def batches(self) -> BatchClient | None:
        return LiteLLMBatches.of(self._endpoint, self.parameters, self.reply_of)

    def reply_of(self, reply: Any) -> ChatReply:
        """Read litellm's reply; without choices it is an empty answer, also billed."""
        text, finish_reason = _said(reply.choices[0]) if reply.choices else ("", "stop")
        return ChatReply(
            text=text,
            usage=self._endpoint.usage(reply),
            model=reply.model or self.name,
            finish_reason=finish_reason,
            headers=rate_limits(reply._hidden_params.get("headers") or {}),
        )

    def parameters(self, request: ChatRequest) -> dict[str, Any]:
        """Return the parameters of a request in the form that the server has been found to know."""
        formats = self._formats(request)
        parameters: dict[str, Any] = {
            "response_format": formats[min(self._simpler, len(formats) - 1)],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
        }
        given = {self._names.get(name, name): value for name, value in parameters.items()}
        return {**self._extra, **{name: value for name, value in given.items() if name}}

    @property
    def _form(self) -> tuple[int, int, bool]:
        return self._simpler, len(self._names), self._streams

    async def _send(self, request: ChatRequest) -> Any:
        """Send a request in the form that the server has been found to know."""
        begun, limit = time.monotonic(), self._times.limit(self._endpoint.seconds)
        try:
            # litellm's own time limit starts again with every byte.
            async with asyncio.timeout(limit):
                reply = await library().acompletion(
                    messages=[{"role": turn.role, "content": turn.content} for turn in request.messages],
                    **self.parameters(request),
                    **({"stream": True, "stream_options": {"include_usage": True}} if self._streams else {}),
                    **self._endpoint.options() | {"timeout": limit},
                )
                if self._streams:
                    reply = library().stream_chunk_builder([chunk async for chunk in reply])
        except TimeoutError:
            self._times.add(time.monotonic() - begun)
            raise
        self._times.add(time.monotonic() - begun)
        return reply

    def _adapt(self, error: Exception, request: ChatRequest) -> bool:
        """Change the form of all further requests if the server refused this one for its form.

        A change is noted, so that the user learns of it.

        Returns:
            Whether the same request may be accepted now.
        """
        status = getattr(error, "status_code", None)
        said, named = str(error), error_body(error).parameter
        too_long = isinstance(error, library().ContextWindowExceededError)
        if too_long or (status not in (400, 422) and "response_format" not in said):
            return False
        if not self._streams and re.search(r"\bstream(ing)? mode|\bstream\b.{0,30}(enable|true|must|only)", said):
            self._streams = True
            self._notes.append(f"{self.name} answers only as a stream, so it is asked for one")
            return True
        if FORMAT.search(named) or FORMAT.search(said):
            if self._simpler + 1 >= len(self._formats(request)):
                return False
            self._simpler += 1
            if self._simpler > 1:
                self._notes.append(
                    f"{self.name} does not know this form of `response_format`: a simpler one is sent"
                )
            return True
        for name, other in SUBSTITUTES.items():
            if self._names.get(name, name) == name and (named == name or re.search(rf"\b{name}\b", said)):
                self._names[name] = other
                instead = f"`{other}` is sent instead" if other else "it is left out"
                self._notes.append(f"{self.name} does not take `{name}`: {instead}")
                return True
        return False

    def _formats(self, request: ChatRequest) -> list[dict[str, Any] | None]:
        """Return the forms of structured output, strongest first."""
        if request.schema is None or not self._structured:
            return [None]
        schema = dict(request.schema)
        name = re.sub(r"\W", "_", request.prompt.partition("@")[0])
        mode: dict[str, Any] = {"type": "json_object"}
        if self._endpoint.address is not None:
            mode["schema"] = schema  # where llama.cpp's servers read it
        return [{"type": "json_schema", "json_schema": {"name": name, "schema": schema}}, mode, None]


class LiteLLMEmbeddings(EmbeddingBackend):
    """Embedding model by litellm's name, such as openai/text-embedding-3-small."""

    def __init__(self, spec: BackendSpec) -> None:
        self._endpoint = Endpoint.find(spec, chat=False)
        self.name = self._endpoint.name
        self.paid = self._endpoint.price() != (0.0, 0.0)
        self._dimension: int | None = (
            None if self._endpoint.free else self._endpoint.info().get("output_vector_size")
        )

    @property
    def dimension(self) -> int | None:
        return self._dimension

    def identity(self) -> dict[str, Any]:
        return self._endpoint.identity()

    def price_per_token(self) -> float | None:
        price = self._endpoint.price()
        return None if price is None else price[0]

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        if not texts:
            return EmbeddingReply(np.zeros((0, self._dimension or 0), np.float32), Usage())
        unlogged()
        warm()
        try:
            async with asyncio.timeout(self._endpoint.seconds):
                reply = await library().aembedding(input=list(texts), **self._endpoint.options())
            rows = sorted(reply.data, key=lambda row: row["index"])
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except Exception as error:
            raise self._endpoint.error(error) from None
        norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not (np.isfinite(norms) & (norms > 0)).all():
            raise BackendError(f"{self.name}: it returned no usable vectors for {len(texts)} texts", retryable=True)
        self._dimension = vectors.shape[1]
        headers = rate_limits(reply._hidden_params.get("headers") or {})
        return EmbeddingReply(vectors / norms, self._endpoint.usage(reply), headers)


def _said(choice: Any) -> tuple[str, str]:
    """Return the text of a choice and its finish reason, wherever the server put the text.

    Some give it as a list of parts, as the arguments of a tool call, or, when they are done, among the thoughts.
    """
    message, finish_reason = choice.message, choice.finish_reason or "stop"
    text = message.content or ""
    if text.strip():
        return text, finish_reason
    if refusal := getattr(message, "refusal", None):
        return str(refusal), "content_filter"
    calls = [call.function for call in message.tool_calls or ()]
    calls += [message.function_call] if getattr(message, "function_call", None) else []
    if arguments := [str(call.arguments) for call in calls if call.arguments]:
        return "\n".join(arguments), "stop" if finish_reason in ("tool_calls", "function_call") else finish_reason
    if finish_reason == "stop":
        text = getattr(message, "reasoning_content", None) or ""
    return text, finish_reason


def _is_refusal(error: Exception) -> bool:
    """Return whether the provider refused the prompt: one lost answer, no reason to stop a run."""
    codes = ("content_filter", "content_policy_violation")
    return isinstance(error, library().ContentPolicyViolationError) or getattr(error, "code", None) in codes


def _chat(spec: BackendSpec) -> ChatBackend:
    return LiteLLMChat(spec)


def _embeddings(spec: BackendSpec) -> EmbeddingBackend:
    return LiteLLMEmbeddings(spec)


plugin = Plugin(chat=_chat, embeddings=_embeddings)
