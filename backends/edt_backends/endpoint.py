"""Where litellm asks for a model, with which key, at what price, and what its errors mean to a user."""

from __future__ import annotations

import contextlib
import ipaddress
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

from edt_backends.base import BackendError, Usage
from edt_backends.registry import unknown_provider

TIMEOUT_SECONDS, OWN_TIMEOUT_SECONDS = 120.0, 600.0
"""For one answer: of a provider, and of a server of the user's own, where calls wait for each other."""
OWN_SERVERS = frozenset({"ollama", "ollama_chat", "hosted_vllm", "lm_studio", "llamafile"})
ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # prices from the package, not from the network
    "LITELLM_OFFLINE_MODE": "true",  # nor anything else of its own accord
    "LITELLM_MODE": "PRODUCTION",  # keys from the environment, not from some .env above the working folder
}
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


@cache
def library() -> ModuleType:
    """litellm, without its logging, its telemetry and its calls home."""
    os.environ.update(ENVIRONMENT)
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


@cache
def warm() -> None:
    """A completion that asks nobody. litellm loads most of itself at the first, up to a second on a busy machine,
    which no limit on an answer may count: a call that runs out of time may have been paid for."""
    library().completion(model="openai/none", messages=[{"role": "user", "content": ""}], mock_response="")


def unlogged() -> None:
    """In the task that calls this, litellm makes no log record of a call: a quarter of its work, for nobody."""
    with contextlib.suppress(ImportError):  # a private name of litellm's, which only costs time to be without
        from litellm._internal_context import is_internal_call

        is_internal_call.set(True)


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked for, and with which key.

    `name` is what the user knows the model by, `address` None where litellm knows the provider's. `key` says which
    key is meant; with `keyless` there is none, and none is needed.
    """

    name: str
    model: str
    provider: str
    address: str | None
    key: str
    keyless: bool
    timeout: float | None = None

    @classmethod
    def find(cls, name: str | None, api_base: str | None, *, chat: bool, timeout: float | None = None) -> Endpoint:
        """Errors: BackendError for a provider that litellm does not know, and for a missing key, by its name."""
        if name is None:
            raise BackendError("litellm needs a model, written PROVIDER/MODEL, such as openai/gpt-4o-mini")
        litellm = library()
        # Of litellm's two ways to Ollama, chat goes by the one that applies the model's chat template.
        model = re.sub(r"^ollama/", "ollama_chat/", name) if chat else name
        try:
            _, provider, _, _ = litellm.get_llm_provider(model)
        except Exception:
            raise unknown_provider(name) from None
        family = provider.removesuffix("_chat").upper()
        named = (os.environ.get(f"{family}_{suffix}") for suffix in ("BASE_URL", "API_BASE"))
        address = api_base or next(filter(None, named), None)
        missing = litellm.validate_environment(model)["missing_keys"]
        keys = [key for key in missing if key.endswith(("_API_KEY", "_TOKEN"))]
        if keys and address is None:
            raise BackendError(f"{name} needs a key: set the environment variable {' or '.join(keys)}")
        usual = f"{family}_API_KEY"
        key = f"the key in {usual}" if usual in os.environ else "the key"
        return cls(
            name=name, model=model, provider=provider, address=address, key=key, keyless=bool(keys), timeout=timeout
        )

    @property
    def free(self) -> bool:
        """A server of the user's own. At an address on the network somebody may be keeping the bill."""
        return self.provider in OWN_SERVERS or _is_loopback(self.address)

    @property
    def seconds(self) -> float:
        """How long one answer may take."""
        return self.timeout or (OWN_TIMEOUT_SECONDS if self.free else TIMEOUT_SECONDS)

    @property
    def shown_address(self) -> str | None:
        """Without a user's name, password or query, where keys are."""
        if self.address is None:
            return None
        parts = urlsplit(self.address)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}".rstrip("/")

    def identity(self) -> dict[str, Any]:
        return {"backend": "litellm", "model": self.model, "api_base": self.shown_address}

    def info(self) -> Mapping[str, Any]:
        """What the price map that litellm carries says of the model; empty where it does not know it."""
        try:
            known: Mapping[str, Any] = library().get_model_info(self.model)
            return known
        except Exception:
            return {}

    def price(self) -> tuple[float, float] | None:
        """US dollars for a prompt token and a completion token; None where that is not known."""
        if self.free:
            return 0.0, 0.0
        info = self.info()
        if info.get("input_cost_per_token") is None:
            return None
        return info["input_cost_per_token"], info.get("output_cost_per_token") or 0.0

    def usage(self, reply: Any) -> Usage:
        """Of a reply of litellm's, at the price that it computes (parts of a prompt may come cheaper)."""
        counted = reply.usage
        prompt_tokens = getattr(counted, "prompt_tokens", None) or 0
        completion_tokens = getattr(counted, "completion_tokens", None) or 0
        price = self.price()
        if self.free or price is None or not prompt_tokens:
            return Usage(prompt_tokens, completion_tokens, 0.0 if self.free else None)
        try:
            cost = float(library().completion_cost(completion_response=reply, model=self.model))
        except Exception:  # litellm's exceptions share no base; the reply is paid for, whatever it says
            cost = prompt_tokens * price[0] + completion_tokens * price[1]
        return Usage(prompt_tokens, completion_tokens, cost)

    def options(self) -> dict[str, Any]:
        """What every call says. A client that insists on a key gets a word in place of one that is not needed."""
        return {
            "model": self.model,
            "api_base": self.address,
            "api_key": "none" if self.keyless else None,
            "timeout": self.seconds,
            "max_retries": 0,  # each try is paced and paid for: not litellm's to make
            "drop_params": True,
        }

    def error(self, error: Exception) -> BackendError:
        """One line that says what to do. Providers repeat keys in what they say: it is shown only where it must be,
        and without them."""
        status = getattr(error, "status_code", None)
        if isinstance(error, TimeoutError):
            status = 408
        sent = {name.lower(): str(value) for name, value in _headers(error).items()}
        said = _without_secrets(" ".join(str(error).split()), self.address)
        said = re.sub(r"^(litellm\.)?(\w+Error: )*(\w+Exception - )?", "", said)[:200]
        at = f" at {self.shown_address}" if self.address else ""
        transient = status in (408, 409, 425, 429) or (status or 0) >= 500
        if _never_left(error):
            line = f"{self.name}: the server{at} cannot be reached: is it running?"
            return BackendError(line, retryable=True, unbilled=True)
        if status == 401:
            line = f"{self.key} was refused{at}"
        elif status == 402 or "insufficient_quota" in str(error):
            line, transient = f"there is no credit left for {self.key}", False
        elif status == 403:
            line = f"{self.key} may not use this model{at}"
        elif status == 404:
            line = f"there is no such model{at}: {said}"
        elif status == 408:
            line = f"no answer within {self.seconds:g} s{at}"
        elif status == 429:
            line = f"too many requests{at}"
        elif "Connection error" in said or "APIConnectionError" in type(error).__name__:
            return BackendError(f"{self.name}: the connection{at} broke before an answer was whole", retryable=True)
        elif status is None:
            return BackendError(f"{self.name}: no reply that can be read ({type(error).__name__})", retryable=True)
        else:
            line = said
        return BackendError(
            f"{self.name}: {line} (HTTP {status})",
            retryable=transient,
            # Turned away by the server itself, as its headers show; litellm gives codes to errors of its own too.
            unbilled=bool(sent) and 400 <= (status or 0) < 500 and status not in (408, 499),
            status=status,
            headers=sent,
        )


def rate_limits(headers: Mapping[str, Any]) -> dict[str, str]:
    """What of a reply's headers says how fast one may ask."""
    return {name.lower(): str(value) for name, value in headers.items() if "ratelimit" in name.lower()}


def _headers(error: Exception) -> Mapping[str, Any]:
    """A provider's, which litellm keeps in one of two places."""
    found = getattr(error, "litellm_response_headers", None)
    return found or getattr(getattr(error, "response", None), "headers", None) or {}


def _never_left(error: BaseException | None) -> bool:
    """Whether no connection came about."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError | socket.gaierror) or "ConnectTimeout" in type(error).__name__:
            return True
        error = error.__cause__ or error.__context__
    return False


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
