"""Backends for every provider that litellm supports.

Importing litellm takes seconds, so it is imported only when one of its models is used.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from edt_backends.base import (
    BackendError,
    BackendSpec,
    ChatBackend,
    ChatReply,
    ChatRequest,
    EmbeddingBackend,
    EmbeddingReply,
    Plugin,
    Usage,
)
from edt_backends.endpoint import Endpoint, library, rate_limits, unlogged, warm


class LiteLLMChat(ChatBackend):
    """Chat model by litellm's name, such as deepseek/deepseek-chat.

    Replies are requested as structured output; if a server does not support a form, the next simpler one is tried.
    """

    def __init__(self, model: str | None, api_base: str | None = None, timeout: float | None = None) -> None:
        self._endpoint = Endpoint.find(model, api_base, chat=True, timeout=timeout)
        self.name = self._endpoint.name
        self.paid = self._endpoint.price() != (0.0, 0.0)
        schemas = self._endpoint.address is not None or self._endpoint.free
        self._simpler = 0 if schemas or library().supports_response_schema(self._endpoint.model) else 1

    def identity(self) -> dict[str, Any]:
        return self._endpoint.identity()

    def price_per_token(self) -> tuple[float, float] | None:
        return self._endpoint.price()

    async def complete(self, request: ChatRequest) -> ChatReply:
        unlogged()
        warm()
        formats = self._formats(request)
        first = min(self._simpler, len(formats) - 1)
        for number in range(first, len(formats)):
            try:
                # litellm's own time limit starts again with every byte.
                async with asyncio.timeout(self._endpoint.seconds):
                    reply = await library().acompletion(
                        messages=[{"role": turn.role, "content": turn.content} for turn in request.messages],
                        response_format=formats[number],
                        max_tokens=request.max_tokens,
                        temperature=request.temperature,
                        seed=request.seed,
                        **self._endpoint.options(),
                    )
                break
            except Exception as error:  # litellm's exceptions share no base class
                if _is_refusal(error):
                    return ChatReply(text="", usage=Usage(), model=self.name, finish_reason="content_filter")
                if number + 1 == len(formats) or not re.search("response_format|json_schema", str(error)):
                    raise self._endpoint.error(error) from None
                self._simpler = max(self._simpler, number + 1)
        # Without choices it is an empty answer, also billed.
        text, finish_reason = _said(reply.choices[0]) if reply.choices else ("", "stop")
        return ChatReply(
            text=text,
            usage=self._endpoint.usage(reply),
            model=reply.model or self.name,
            finish_reason=finish_reason,
            headers=rate_limits(reply._hidden_params.get("headers") or {}),
        )

    def _formats(self, request: ChatRequest) -> list[dict[str, Any] | None]:
        """Return the forms of structured output, strongest first."""
        if request.schema is None:
            return [None]
        schema = dict(request.schema)
        name = re.sub(r"\W", "_", request.prompt.partition("@")[0])
        mode: dict[str, Any] = {"type": "json_object"}
        if self._endpoint.address is not None:
            mode["schema"] = schema  # where llama.cpp's servers read it
        return [{"type": "json_schema", "json_schema": {"name": name, "schema": schema}}, mode, None]


class LiteLLMEmbeddings(EmbeddingBackend):
    """Embedding model by litellm's name, such as openai/text-embedding-3-small."""

    def __init__(self, model: str | None, api_base: str | None = None, timeout: float | None = None) -> None:
        self._endpoint = Endpoint.find(model, api_base, chat=False, timeout=timeout)
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
    return LiteLLMChat(spec.model, spec.api_base, spec.timeout)


def _embeddings(spec: BackendSpec) -> EmbeddingBackend:
    return LiteLLMEmbeddings(spec.model, spec.api_base, spec.timeout)


plugin = Plugin(chat=_chat, embeddings=_embeddings)
