"""Registry of backends: entry points of the group `edt.backends`, and short names for litellm's models.

A provider is written NAME or NAME/MODEL. If NAME is not an installed backend (`local`, or a third party's), the
whole is a model name of litellm's. Names are listed without importing a backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edt_backends.base import BackendError, BackendSpec, Catalogue, ChatBackend, EmbeddingBackend, Plugin

GROUP = "edt.backends"
FALLBACK = "litellm"
SHORT_NAMES: dict[str, tuple[str, str | None]] = {
    "deepseek": ("deepseek", "deepseek-chat"),
    "gpt-3.5": ("openai", "gpt-3.5-turbo"),
    "ollama": ("ollama", None),
}


def provider_names() -> list[str]:
    """Return the names that `--provider` accepts beside litellm's PROVIDER/MODEL.

    Installed backends come first, then short names.
    """
    installed = {point.name for point in entry_points(group=GROUP)} - {FALLBACK}
    return sorted(installed, key=lambda name: (name != "local", name)) + sorted(SHORT_NAMES.keys() - installed)


def installed() -> dict[str, str]:
    """Map each entry point to its package and version, without an import."""
    return {
        point.name: f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        for point in entry_points(group=GROUP)
    }


def chat_backend(
    provider: str = "local",
    model: str | None = None,
    api_base: str | None = None,
    catalogue: Catalogue | None = None,
    timeout: float | None = None,
    *,
    dry: bool = False,
    extra: Mapping[str, Any] | None = None,
    structured: bool = True,
) -> ChatBackend:
    """Return the chat backend for `--provider`, `--llm-model` and `--api-base`.

    Args:
        provider: NAME or NAME/MODEL.
        model: Model, if it is not part of `provider`.
        api_base: Address of a server in place of the provider's.
        catalogue: Training items that `local` retrieves from.
        timeout: Seconds to wait for one answer.
        dry: Whether nobody will be called, so that no key is needed.
        extra: Further parameters of each call, by the provider's names.
        structured: Whether to ask for structured output.

    Raises:
        BackendError: Before any call, for an unknown provider, a missing key or a missing model name.
    """
    name, rest = _resolve(provider, model)
    plugin = _load(name)
    if plugin.chat is None:
        raise BackendError(f"backend {name!r} only makes embeddings; use it with --embedder")
    spec = BackendSpec(model=rest, api_base=api_base, timeout=timeout, catalogue=catalogue, dry=dry)
    return plugin.chat(replace(spec, extra=extra or {}, structured=structured))


def same_provider(one: str, other: str) -> bool:
    """Return whether two names are of models of the same provider of litellm's, or of the same plugin's."""
    families = [SHORT_NAMES.get(name, (name, None))[0] for name in (one.partition("/")[0], other.partition("/")[0])]
    return families[0] == families[1]


def embedding_backend(
    name: str = "local",
    api_base: str | None = None,
    device: str = "cpu",
    timeout: float | None = None,
    *,
    dry: bool = False,
) -> EmbeddingBackend:
    """Return the embedding backend for `--embedder`.

    Args:
        name: `local` for the packaged MiniLM and a lexical map; `local/all-MiniLM-L6-v2` for the same without the
            map; `local/NAME` for a sentence-transformers model on the hub or in a folder; `PROVIDER/MODEL` for an
            embedding model of litellm's.
        api_base: Address of a server in place of the provider's.
        device: Device to compute on.
        timeout: Seconds to wait for one answer.
        dry: Whether nobody will be called, so that no key is needed.

    Raises:
        BackendError: As `chat_backend`.
    """
    plugin_name, rest = _resolve(name, None)
    plugin = _load(plugin_name)
    if plugin.embeddings is None:
        raise BackendError(f"backend {plugin_name!r} makes no embeddings; use it with --provider")
    return plugin.embeddings(BackendSpec(model=rest, api_base=api_base, timeout=timeout, device=device, dry=dry))


def _resolve(provider: str, model: str | None) -> tuple[str, str | None]:
    """Return the entry point for a provider's name, and the model to use."""
    name, _, rest = provider.partition("/")
    if rest and model:
        raise BackendError(f"{provider!r} names a model already, and {model!r} another: give only one")
    model = rest or model
    if any(point.name == name for point in entry_points(group=GROUP)):
        return name, model
    provider, default = SHORT_NAMES.get(name, (name, None))
    model = model or default
    if model is None and name in SHORT_NAMES:
        raise BackendError(f"{name!r} needs a model, for example --provider {name} --llm-model llama3.1")
    if model is None:
        raise unknown_provider(name)
    return FALLBACK, f"{provider}/{model}"


def unknown_provider(name: str) -> BackendError:
    """Return the error for an unknown provider, which names the one that may be meant, or else lists the known."""
    if close := get_close_matches(name, provider_names(), n=1):
        return BackendError(f"unknown provider {name!r}: did you mean {close[0]}?")
    return BackendError(
        f"unknown provider {name!r}: there are {', '.join(provider_names())}, "
        "and any PROVIDER/MODEL that litellm knows, such as openai/gpt-4o-mini"
    )


def _load(name: str) -> Plugin:
    points = entry_points(group=GROUP, name=name)
    if len(points) != 1:
        owners = ", ".join(sorted(_owner(point) for point in points))
        raise BackendError(f"several packages name a backend {name!r} ({owners}): uninstall all but one")
    (point,) = points
    try:
        plugin = point.load()
    except Exception as error:  # a third party's code: whatever it does, the user gets one line
        raise BackendError(f"backend {name!r} of {_owner(point)} cannot be loaded: {error}") from error
    if not isinstance(plugin, Plugin):
        raise BackendError(f"backend {name!r} of {_owner(point)} is not an edt_backends.base.Plugin: {point.value}")
    return plugin


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
