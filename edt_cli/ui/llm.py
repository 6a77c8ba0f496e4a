"""Section of the reply cache: its entries and cost by model, and the replies."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from edt_cli.ui.messages import Spent
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import paragraph, safe, short, size

NEWEST = 500


@dataclass(frozen=True)
class CacheContent:
    """Content of the reply cache."""

    entries: int
    bytes: int
    cost_usd: float
    models: list[tuple[str, ...]]
    """Name, entries, tokens in, tokens out and dollars of each model."""
    replies: list[dict[str, Any]]
    """The newest chat replies, newest first."""


class LlmCache(Pane):
    """Section of the reply cache; embeddings are only counted, replies can be read."""

    DEFAULT_CSS = """
    LlmCache #left { height: 1fr; width: 1fr; }
    LlmCache #summary { height: auto; max-height: 4; }
    LlmCache #models { height: 5; }
    LlmCache #reply { height: 1fr; }
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.cache_content: CacheContent | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="left"):
            yield Static(id="summary", classes="bar", markup=False)
            yield Rows(id="models", empty="nothing was asked yet")
            yield Rows(id="replies", empty="no reply of an LLM is kept here")
        reply = Static(id="reply", classes="frame facts", markup=False)
        reply.border_title = "reply"
        yield reply

    def entered(self) -> None:
        self.query_one("#summary", Static).update("counting ... (a second for each 40,000 entries)")
        self.reads(lambda: read_cache(self.folder), self._show)

    def _show(self, cache: CacheContent) -> None:
        self.cache_content = cache
        self.post_message(Spent(cache.cost_usd))
        text = f"{cache.entries:,} entries, {size(cache.bytes)} on disk; they cost ${cache.cost_usd:.4f} when made"
        self.query_one("#summary", Static).update(
            f"{text}\nremoved by nothing but you: every reply is paid for once"
        )
        figures = [Col(name, 11, right=True) for name in ("entries", "tokens in", "tokens out", "USD")]
        models = cache.models
        self.query_one("#models", Rows).load([Col("model", 34), *figures], len(models), models.__getitem__)
        heads = [
            Col("when", 16),
            Col("model", 22),
            Col("prompt", 16),
            Col("user", 14),
            Col("tokens", 7, right=True),
        ]
        self.query_one("#replies", Rows).load(heads, len(cache.replies), self._line)

    def _line(self, number: int) -> tuple[str, ...]:
        assert self.cache_content is not None
        entry = self.cache_content.replies[number]
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.get("time", 0)))
        usage = entry.get("usage") or {}
        aside = " (set aside)" if entry.get("rejected") else ""
        tokens = usage.get("completion_tokens", 0)
        model = f"{entry.get('model') or entry.get('backend')}{aside}"
        return when, model, str(entry.get("prompt", "")), str(entry.get("user") or ""), short(tokens)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if (
            event.rows.id == "replies"
            and self.cache_content is not None
            and event.row < len(self.cache_content.replies)
        ):
            self.query_one("#reply", Static).update(
                paragraph(self.cache_content.replies[event.row].get("reply", ""))
            )

    def failed(self, message: str) -> None:
        self.query_one("#summary", Static).update(f"! {safe(message, 300)}")


def read_cache(folder: Path) -> CacheContent:
    """Read every entry of the cache, without creating a cache where there is none."""
    if not (folder / "cache.db").is_file():
        return CacheContent(entries=0, bytes=0, cost_usd=0.0, models=[], replies=[])
    from edt_backends.store import ReplyCache

    cache = ReplyCache(folder)
    try:
        stats = cache.stats()
        replies = deque((entry for _, entry in cache.entries() if "reply" in entry), maxlen=NEWEST)
    finally:
        cache.close()
    models: list[tuple[str, ...]] = [
        (name, f"{m.entries:,}", f"{m.prompt_tokens:,}", f"{m.completion_tokens:,}", f"{m.cost_usd:.4f}")
        for name, m in sorted(stats.models.items(), key=lambda entry: -entry[1].cost_usd)
    ]
    return CacheContent(
        entries=stats.entries,
        bytes=stats.bytes,
        cost_usd=stats.cost_usd,
        models=models,
        replies=list(reversed(replies)),
    )
