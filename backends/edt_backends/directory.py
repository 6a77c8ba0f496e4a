"""Directory of the providers on this machine: their keys, prices and whether they answer."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edt_backends.base import BackendError, ChatBackend, ChatRequest, Message
from edt_backends.endpoint import OWN_SERVERS
from edt_backends.price_map import listed_price, listed_providers
from edt_backends.registry import SHORT_NAMES, chat_backend, installed, provider_names

PING = ChatRequest("ping@1", (Message("user", "Reply with the word OK."),), max_tokens=16)


@dataclass(frozen=True)
class Listed:
    """Entry of the directory.

    Attributes:
        provider: Name of the provider.
        model: Model as shown to the user.
        source: Package that provides the backend.
        key: Environment variable of the key; None if none is needed.
        has_key: Whether that variable is set.
        price: US dollars per million tokens of prompt and completion.
        problem: Reason why the provider cannot be used.
        backend: The backend, if it can be used.
    """

    provider: str
    model: str | None
    source: str
    key: str | None = None
    has_key: bool | None = None
    price: tuple[float, float] | None = None
    problem: str | None = None
    backend: ChatBackend | None = None


def providers(
    provider: str | None = None,
    model: str | None = None,
    api_base: str | None = None,
    timeout: float | None = None,
    *,
    asked: bool = True,
) -> Iterator[Listed]:
    """Yield the named provider, or all known ones.

    These are the installed backends, the short names, and litellm's providers whose key is in the environment.

    Args:
        provider: The only one to yield.
        model: Its model.
        api_base: Address of its server.
        timeout: Seconds to wait for an answer.
        asked: Whether they will be asked something; if not, all are listed without importing litellm.
    """
    packages = installed()
    names = [provider] if provider else provider_names()
    for name in names:
        quick = None if asked or provider or model or api_base else _at_a_glance(name, packages)
        yield quick or _look(name, model, api_base, timeout, packages)
    if provider is None:
        known = {SHORT_NAMES[name][0] for name in SHORT_NAMES if name not in packages}
        yield from (_with_key(name) for name in _keyed() if name not in known)


def keys() -> dict[str, bool]:
    """Return the variables of keys and whether each is set: those of the short names, and others that are set."""
    families = {family for family, _ in SHORT_NAMES.values()} - OWN_SERVERS
    others = {name for name in os.environ if re.fullmatch(r"\w+_API_KEY", name)}
    return {name: bool(os.environ.get(name)) for name in sorted(others | {_variable(name) for name in families})}


def ping(backend: ChatBackend) -> float:
    """Return the seconds until a backend has answered a question of a few tokens.

    Raises:
        BackendError: If it does not answer.
    """
    begun = time.perf_counter()
    asyncio.run(backend.complete(PING))
    return time.perf_counter() - begun


def _look(
    name: str, model: str | None, api_base: str | None, timeout: float | None, packages: dict[str, str]
) -> Listed:
    plugin = name.partition("/")[0]
    source = packages.get(plugin, packages.get("litellm", ""))
    family = SHORT_NAMES.get(plugin, (plugin, None))[0]
    key = None if plugin in packages or family in OWN_SERVERS else _variable(family)
    has_key = key in os.environ if key else None
    try:
        backend = chat_backend(name, model, api_base, timeout=timeout)
    except BackendError as error:
        return Listed(provider=name, model=model, source=source, key=key, has_key=has_key, problem=str(error))
    price = backend.price_per_token()
    million = None if price is None else (price[0] * 1e6, price[1] * 1e6)
    return Listed(
        provider=name, model=backend.name, source=source, key=key, has_key=has_key, price=million, backend=backend
    )


def _at_a_glance(name: str, packages: dict[str, str]) -> Listed | None:
    """Return the entry of a short name by its key and litellm's price map; None if that does not tell all."""
    family, model = SHORT_NAMES.get(name, (name, None))
    address = any(os.environ.get(f"{family.upper()}_{suffix}") for suffix in ("BASE_URL", "API_BASE"))
    if name in packages or model is None or address:
        return None
    full, key = f"{family}/{model}", _variable(family)
    if (price := listed_price(full)) is None:
        return None
    entry = Listed(
        provider=name, model=None, source=packages.get("litellm", ""), key=key, has_key=key in os.environ
    )
    if not entry.has_key:
        return replace(entry, problem=f"{full} needs a key: set the environment variable {key}")
    return replace(entry, model=full, price=(price[0] * 1e6, price[1] * 1e6))


def _keyed() -> list[str]:
    """Return litellm's providers whose key is in the environment; none without litellm."""
    with_key = (match[1].lower() for name in os.environ if (match := re.fullmatch(r"(\w+)_API_KEY", name)))
    return sorted(listed_providers().intersection(with_key))


def _with_key(name: str) -> Listed:
    source = installed().get("litellm", "")
    return Listed(
        provider=name,
        model=f"{name}/MODEL",
        source=source,
        key=_variable(name),
        has_key=True,
        problem="name a model",
    )


def _variable(family: str) -> str:
    return f"{family.upper()}_API_KEY"
