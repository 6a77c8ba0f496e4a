"""Batch jobs of the providers that speak OpenAI's `/v1/batches`, by litellm."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from edt_backends.base import BackendError, BatchClient, ChatReply, ChatRequest, JobState, Usage
from edt_backends.endpoint import TOO_LONG, Endpoint, library, unlogged

PROVIDERS = frozenset({"openai", "azure", "hosted_vllm", "litellm_proxy"})
"""Those whose jobs litellm makes in this form."""
ROUTE = "/v1/chat/completions"
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
LABEL = "edt"
"""Key of a job's name in its metadata."""
LISTED = 100
"""Jobs of a provider among which one is looked for by its name, newest first."""


class LiteLLMBatches(BatchClient):
    """Batch jobs of a chat model."""

    def __init__(
        self,
        endpoint: Endpoint,
        parameters: Callable[[ChatRequest], dict[str, Any]],
        reply_of: Callable[[Any], ChatReply],
    ) -> None:
        """Use the batch jobs of an endpoint.

        Args:
            endpoint: Address and key of the model.
            parameters: Returns the parameters of a request as the model takes them.
            reply_of: Reads litellm's form of a reply.
        """
        self._endpoint, self._parameters, self._reply_of = endpoint, parameters, reply_of

    @classmethod
    def of(
        cls,
        endpoint: Endpoint,
        parameters: Callable[[ChatRequest], dict[str, Any]],
        reply_of: Callable[[Any], ChatReply],
    ) -> LiteLLMBatches | None:
        """Return the batch jobs of an endpoint; None if its provider has none that litellm makes."""
        return cls(endpoint, parameters, reply_of) if endpoint.provider in PROVIDERS else None

    def price_per_token(self) -> tuple[float, float] | None:
        """Return the price of a job: half of the usual one where the price map says nothing else."""
        usual = self._endpoint.price()
        if usual is None or not any(usual):
            return usual
        return self._endpoint.further_prices().batch or (usual[0] / 2, usual[1] / 2)

    async def submit(self, name: str, requests: Mapping[str, ChatRequest]) -> str:
        lines = [
            {"custom_id": key, "method": "POST", "url": ROUTE, "body": self._body(request)}
            for key, request in requests.items()
        ]
        content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
        made = await self._call(
            library().acreate_file, file=(f"{name}.jsonl", content, "application/jsonl"), purpose="batch"
        )
        job = await self._call(
            library().acreate_batch,
            completion_window="24h",
            endpoint=ROUTE,
            input_file_id=made.id,
            metadata={LABEL: name},
        )
        return str(job.id)

    async def find(self, name: str) -> str | None:
        listed = await self._call(library().alist_batches, limit=LISTED)
        return next((job.id for job in listed.data if (job.metadata or {}).get(LABEL) == name), None)

    async def state(self, job: str) -> JobState:
        found = await self._call(library().aretrieve_batch, batch_id=job)
        counts = found.request_counts
        return JobState(found.status, found.status in ENDED, counts.completed if counts else 0)

    async def replies(self, job: str) -> dict[str, ChatReply | BackendError]:
        found = await self._call(library().aretrieve_batch, batch_id=job)
        if found.status == "failed":
            errors = found.errors.data if found.errors else ()
            said = "; ".join(dict.fromkeys(error.message or error.code or "" for error in errors or ()))
            raise BackendError(f"{self._endpoint.name}: a batch job was refused: {said[:300]}", unbilled=True)
        replies: dict[str, ChatReply | BackendError] = {}
        for file in (found.output_file_id, found.error_file_id):
            if file:
                content = await self._call(library().afile_content, file_id=file)
                for line in content.content.decode("utf-8", "replace").splitlines():
                    replies |= self._reply(line)
        return replies

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body of a request as litellm would send it by itself."""
        parameters = library().get_optional_params(
            model=self._endpoint.model.partition("/")[2] or self._endpoint.model,
            custom_llm_provider=self._endpoint.provider,
            drop_params=True,
            **self._parameters(request),
        )
        return {
            "model": self._endpoint.model.partition("/")[2] or self._endpoint.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
            **parameters.pop("extra_body", {}),
            **parameters,
        }

    def _reply(self, line: str) -> dict[str, ChatReply | BackendError]:
        """Read a line of a job's output; one that cannot be read answers nothing."""
        try:
            document = json.loads(line)
            key, response = document["custom_id"], document.get("response") or {}
            body = response.get("body") or {}
            if response.get("status_code") == 200:
                return {key: self._reply_of(library().ModelResponse(**body))}
            error = document.get("error") or body.get("error") or {}
            said = error.get("message") if isinstance(error, dict) else str(error)
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}
        if isinstance(error, dict) and error.get("code") in ("content_filter", "content_policy_violation"):
            return {key: ChatReply("", Usage(), self._endpoint.name, finish_reason="content_filter")}
        if isinstance(error, dict) and error.get("code") == "batch_expired":
            return {}
        message = f"{self._endpoint.name}: {str(said or 'no answer')[:200]} (in a batch job)"
        if response.get("status_code") == 413 or (isinstance(error, dict) and error.get("code") in TOO_LONG):
            return {key: BackendError(message, only_this=True, unbilled=True, status=response.get("status_code"))}
        return {key: BackendError(message, retryable=True, unbilled=True)}

    async def _call(self, function: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
        unlogged()
        options = self._endpoint.options()
        try:
            return await function(
                custom_llm_provider=self._endpoint.provider,
                **{name: options[name] for name in ("api_base", "api_key", "timeout", "max_retries")},
                **arguments,
            )
        except Exception as error:
            raise self._endpoint.error(error) from None
