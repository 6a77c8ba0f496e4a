"""Endpoints of litellm: address, key and price of a model, and its errors in plain words."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import json
import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from edt_backends.base import BackendError, BackendSpec, FurtherPrices, Usage
from edt_backends.registry import unknown_provider

TIMEOUT_SECONDS, OWN_TIMEOUT_SECONDS = 120.0, 600.0
"""Seconds for one answer: of a provider, and of a server that the user runs, where calls wait for each other."""
THINKING_TOKENS = 8192
OLLAMA_HOST, OLLAMA_PORT = "127.0.0.1", "11434"
OWN_SERVERS = frozenset({"ollama", "ollama_chat", "hosted_vllm", "lm_studio", "llamafile"})
ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # prices from the package, not from the network
    "LITELLM_OFFLINE_MODE": "true",  # no other requests than ours
    "LITELLM_MODE": "PRODUCTION",  # keys from the environment, not from an .env file above the working folder
}
TOO_LONG = frozenset({"context_length_exceeded", "string_above_max_length", "request_too_large"})
NO_CREDIT = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "insufficient_balance", "quota_exceeded"}
)
"""Codes in the body of an error."""
UNCONNECTED = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ClientConnectorError"})
"""Errors of httpx, httpcore and aiohttp before anything is sent."""
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


@cache
def library() -> ModuleType:
    """Import litellm without its logging, its telemetry and its own network requests.

    Raises:
        BackendError: If it is not installed.
    """
    os.environ.update(ENVIRONMENT)
    try:
        import litellm
    except ModuleNotFoundError as error:
        raise BackendError(
            "providers and embedders other than `local` need litellm: pip install 'edt-cli[llm]'"
        ) from error

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


@cache
def warm() -> None:
    """Make litellm load all of itself, by a completion that is sent to nobody.

    It takes up to a second on a busy machine, which must not count towards the time limit of an answer: a call that
    times out may have been paid for.
    """
    library().completion(model="openai/none", messages=[{"role": "user", "content": ""}], mock_response="")
    _join_parts()


def _join_parts() -> None:
    """Make litellm's client of OpenAI's protocol read a content that is a list of parts, which it refuses."""
    with contextlib.suppress(ImportError, AttributeError):  # without it such a reply cannot be read
        client: Any = importlib.import_module("litellm.llms.openai.openai")
        convert = client.convert_to_model_response_object

        def joined(*arguments: Any, response_object: Any, **named: Any) -> Any:
            choices = response_object.get("choices") if isinstance(response_object, dict) else None
            for choice in choices if isinstance(choices, list) else ():
                message = choice.get("message") if isinstance(choice, dict) else None
                if isinstance(message, dict) and isinstance(message.get("content"), list):
                    message["content"] = text_of(message["content"])
            return convert(*arguments, response_object=response_object, **named)

        client.convert_to_model_response_object = joined


def text_of(content: Any) -> str:
    """Return a content as one text: the texts of its parts, if it is a list."""
    if isinstance(content, list):
        return "".join(text_of(part.get("text") if isinstance(part, dict) else part) for part in content)
    return content if isinstance(content, str) else ""


def unlogged() -> None:
    """Turn off litellm's log records in the calling task: nobody reads them, and they take time.

    They are a quarter of litellm's work.
    """
    with contextlib.suppress(ImportError):  # a private name of litellm's; without it calls are only slower
        from litellm._internal_context import is_internal_call

        is_internal_call.set(True)


@dataclass(frozen=True)
class Endpoint:
    """Address and key of a model.

    Attributes:
        name: Model as the user wrote it.
        model: Model as litellm is called with it.
        provider: litellm's name of the provider.
        address: Address of a server; None for the provider's default.
        key: Description of the key, for error messages.
        keyless: Whether there is no key and none is needed.
        timeout: Seconds to wait for one answer; None for the default.
    """

    name: str
    model: str
    provider: str
    address: str | None
    key: str
    keyless: bool
    timeout: float | None = None

    @classmethod
    def find(cls, spec: BackendSpec, *, chat: bool) -> Endpoint:
        """Find the endpoint of a model.

        Raises:
            BackendError: If litellm does not know the provider, or a key is missing (the message names it).
        """
        name, api_base = spec.model, spec.api_base
        if name is None:
            raise BackendError("litellm needs a model, written PROVIDER/MODEL, such as openai/gpt-4o-mini")
        litellm = library()
        # Of litellm's two routes to Ollama, chat takes the one that applies the model's chat template.
        model = re.sub(r"^ollama/", "ollama_chat/", name) if chat else name
        try:
            _, provider, _, _ = litellm.get_llm_provider(model)
        except Exception:
            raise unknown_provider(name) from None
        family = provider.removesuffix("_chat").upper()
        variables = [os.environ.get(f"{family}_{suffix}") for suffix in ("BASE_URL", "API_BASE")]
        variables += [ollama_address(os.environ.get("OLLAMA_HOST", ""))] if family == "OLLAMA" else []
        address = api_base or next(filter(None, variables), None)
        missing = litellm.validate_environment(model)["missing_keys"]
        keys = [key for key in missing if key.endswith(("_API_KEY", "_TOKEN"))]
        if keys and address is None and not spec.dry:
            raise BackendError(f"{name} needs a key: set the environment variable {' or '.join(keys)}")
        usual = f"{family}_API_KEY"
        key = f"the key in {usual}" if usual in os.environ else "the key"
        return cls(
            name=name,
            model=model,
            provider=provider,
            address=address,
            key=key,
            keyless=bool(keys),
            timeout=spec.timeout,
        )

    @property
    def own(self) -> bool:
        """Whether the server is on this machine, or of a kind that users run; one elsewhere may charge somebody."""
        return self.provider in OWN_SERVERS or _is_loopback(self.address)

    @property
    def free(self) -> bool:
        """Whether the server is the user's own, and no proxy before a model that has a price."""
        return self.provider in OWN_SERVERS or (self.own and not self.info().get("input_cost_per_token"))

    @property
    def seconds(self) -> float:
        """Seconds that one answer may take."""
        return self.timeout or (OWN_TIMEOUT_SECONDS if self.own else TIMEOUT_SECONDS)

    @property
    def shown_address(self) -> str | None:
        """The address without user name, password or query, which may contain keys."""
        if self.address is None:
            return None
        parts = urlsplit(self.address)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}".rstrip("/")

    def identity(self) -> dict[str, Any]:
        return {"backend": "litellm", "model": self.model, "api_base": self.shown_address}

    def info(self) -> Mapping[str, Any]:
        """Return the model's entry in litellm's price map; empty if it is not listed."""
        try:
            info: Mapping[str, Any] = library().get_model_info(self.model)
            return info
        except Exception:
            return {}

    def price(self) -> tuple[float, float] | None:
        """Return US dollars per prompt token and per completion token; None if unknown."""
        if self.free:
            return 0.0, 0.0
        info = self.info()
        if info.get("input_cost_per_token") is None:
            return None
        return info["input_cost_per_token"], info.get("output_cost_per_token") or 0.0

    def further_prices(self) -> FurtherPrices:
        """Return the prices of cached prompts and of batches, where litellm's map has them."""
        if self.free:
            return FurtherPrices()
        info = self.info()
        batch = info.get("input_cost_per_token_batches"), info.get("output_cost_per_token_batches")
        return FurtherPrices(
            cached=info.get("cache_read_input_token_cost"),
            batch=None if batch[0] is None or batch[1] is None else (batch[0], batch[1]),
        )

    def thinking_tokens(self) -> int:
        """Return the tokens that a model which is known to reason gets for that, beside those of its answer."""
        info = self.info()
        most = info.get("max_output_tokens") or 2 * THINKING_TOKENS
        return min(THINKING_TOKENS, most // 2) if info.get("supports_reasoning") else 0

    def usage(self, reply: Any) -> Usage:
        """Return the usage of a reply, at litellm's price (parts of a prompt may be cheaper)."""
        counted = reply.usage
        prompt_tokens = getattr(counted, "prompt_tokens", None) or 0
        completion_tokens = getattr(counted, "completion_tokens", None) or 0
        details = getattr(counted, "prompt_tokens_details", None)
        cached = min(getattr(details, "cached_tokens", None) or 0, prompt_tokens)
        price = self.price()
        if self.free or price is None or not prompt_tokens:
            return Usage(prompt_tokens, completion_tokens, 0.0 if self.free else None, max(cached, 0))
        try:
            cost = float(library().completion_cost(completion_response=reply, model=self.model))
        except Exception:  # litellm's exceptions share no base class; the reply is paid for in any case
            cost = prompt_tokens * price[0] + completion_tokens * price[1]
        return Usage(prompt_tokens, completion_tokens, cost, max(cached, 0))

    def options(self) -> dict[str, Any]:
        """Return the arguments of every call.

        A client that insists on a key gets a placeholder if none is needed.
        """
        return {
            "model": self.model,
            "api_base": self.address,
            "api_key": "none" if self.keyless else None,
            "timeout": self.seconds,
            "max_retries": 0,  # each attempt must be paced and paid for, so litellm must not make its own
            "drop_params": True,
        }

    def error(self, error: Exception) -> BackendError:
        """Turn an exception into a BackendError whose line says what to do.

        Providers repeat keys in their messages: these are shown only where needed, and without keys.
        """
        status, body = getattr(error, "status_code", None), error_body(error)
        if isinstance(error, TimeoutError | library().Timeout):
            status = 408
        sent = {name.lower(): str(value) for name, value in _headers(error).items()}
        said = _without_secrets(" ".join(str(error).split()), self.address)
        said = re.sub(r"^(litellm\.)?(\w+Error: )*(\w+Exception - )?", "", said)[:200]
        at = f" at {self.shown_address}" if self.address else ""
        transient = status in (408, 409, 425, 429) or (status or 0) >= 500
        if _never_left(error):
            line = f"{self.name}: the server{at} cannot be reached: is it running?"
            return BackendError(line, retryable=True, unbilled=True)
        if status == 413 or isinstance(error, library().ContextWindowExceededError) or body.code in TOO_LONG:
            line = f"{self.name}: a question is too long for it{at}: {said} (HTTP {status})"
            return BackendError(line, only_this=True, unbilled=bool(sent), status=status, headers=sent)
        if status == 401:
            line = f"{self.key} was refused{at}"
        elif status == 402 or body.code in NO_CREDIT or "insufficient_quota" in str(error):
            line, transient = f"there is no credit left for {self.key}", False
        elif status == 403:
            line = f"{self.key} may not use this model{at}"
        elif status == 404:
            line = f"there is no such model{at}: {said}"
        elif status == 408:
            line = f"no answer within {self.seconds:g} s{at}"
        elif status == 429:
            line = f"too many requests{at}"
        elif not sent and _broke(error):
            line = f"{self.name}: the connection{at} broke before the answer was complete"
            return BackendError(line, retryable=True)
        elif status is None or (not sent and status >= 500):  # litellm's own: the server sent a reply
            line = f"{self.name}: the reply{at} cannot be read ({type(error).__name__})"
            return BackendError(line, retryable=True, unread=True)
        else:
            line = said
        return BackendError(
            f"{self.name}: {line} (HTTP {status})",
            retryable=transient,
            # Headers show that the server itself rejected the request; litellm's own errors have status codes too.
            unbilled=bool(sent) and 400 <= (status or 0) < 500 and status not in (408, 499),
            status=status,
            headers=sent,
        )


@dataclass(frozen=True)
class ErrorBody:
    """What a provider says of an error: its code or type, and the parameter that it names."""

    code: str = ""
    parameter: str = ""


def error_body(error: Exception) -> ErrorBody:
    """Read the body of an error's response, in the form of OpenAI; empty in any other form."""
    try:
        document = json.loads(error.response.text)  # type: ignore[attr-defined]
        said = document.get("error", document)
        code = next((said[name] for name in ("code", "type") if isinstance(said.get(name), str)), "")
        parameter = said.get("param")
    except (AttributeError, TypeError, ValueError):
        return ErrorBody()
    return ErrorBody(code, parameter if isinstance(parameter, str) else "")


def rate_limits(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the rate-limit headers of a reply, by lower-case name."""
    return {name.lower(): str(value) for name, value in headers.items() if "ratelimit" in name.lower()}


def _headers(error: Exception) -> Mapping[str, Any]:
    """Return the provider's response headers, which litellm keeps in one of two attributes."""
    headers = getattr(error, "litellm_response_headers", None)
    return headers or getattr(getattr(error, "response", None), "headers", None) or {}


def _never_left(error: BaseException | None) -> bool:
    """Return whether no connection was made."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError | socket.gaierror) or type(error).__name__ in UNCONNECTED:
            return True
        error = error.__cause__ or error.__context__
    return False


def _broke(error: BaseException | None) -> bool:
    """Return whether a connection broke."""
    from httpx import TransportError

    while error is not None:
        of_aiohttp = type(error).__module__.startswith("aiohttp.") and not hasattr(error, "status")
        if isinstance(error, OSError | TransportError) or of_aiohttp:
            return True
        error = error.__cause__ or error.__context__
    return False


def ollama_address(host: str) -> str | None:
    """Return the address that Ollama's own programs read in OLLAMA_HOST, `[SCHEME://]HOST[:PORT][/PATH]`.

    A server that listens on all of a machine's addresses is asked on this machine. None if the text is empty.
    """
    scheme, stated, rest = host.strip().strip("\"'").rpartition("://")
    at, slash, path = rest.partition("/")
    name, port = re.fullmatch(r"(\[[^]]*\]?|[^:]*(?::[^:]*:.*)?)(?::(\d*))?", at).groups()  # type: ignore[union-attr]
    if not (name or port):
        return None
    name = name.strip("[]") or OLLAMA_HOST
    name = {"0.0.0.0": OLLAMA_HOST, "::": "::1"}.get(name, name)
    port = port or ({"http": "80", "https": "443"}.get(scheme, OLLAMA_PORT) if stated else OLLAMA_PORT)
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme or 'http'}://{shown}:{port}{slash}{path}".rstrip("/")


def _is_loopback(address: str | None) -> bool:
    host = urlsplit(address or "").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_secrets(text: str, address: str | None) -> str:
    secrets = [value for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= 6]
    if address and (parts := urlsplit(address)).netloc:
        secrets += [address, parts.netloc.rpartition("@")[0], parts.query]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…")
    return re.sub(r"\b(sk-|Bearer )\S+", r"\1…", text)
