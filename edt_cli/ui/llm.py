"""The reply cache: what it holds, what it cost, by whom; and the replies to read."""

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
class Held:
    """`models`: (name, entries, tokens in, tokens out, dollars); `replies`: the newest of chats, newest first."""

    entries: int
    bytes: int
    cost_usd: float
    models: list[tuple[str, ...]]
    replies: list[dict[str, Any]]


class LlmCache(Pane):
    """Embeddings are counted, replies can be read."""

    DEFAULT_CSS = """
    LlmCache #left { height: 1fr; width: 1fr; }
    LlmCache #told { height: auto; max-height: 4; }
    LlmCache #models { height: 5; }
    LlmCache #reply { height: 1fr; }
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.held: Held | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="left"):
            yield Static(id="told", classes="bar", markup=False)
            yield Rows(id="models", empty="nothing was asked yet")
            yield Rows(id="replies", empty="no reply of an LLM is kept here")
        reply = Static(id="reply", classes="frame facts", markup=False)
        reply.border_title = "reply"
        yield reply

    def entered(self) -> None:
        self.query_one("#told", Static).update("counting ... (a second for each 40,000 entries)")
        self.reads(lambda: read_cache(self.folder), self._show)

    def _show(self, held: Held) -> None:
        self.held = held
        self.post_message(Spent(held.cost_usd))
        told = f"{held.entries:,} entries, {size(held.bytes)} on disk; they cost ${held.cost_usd:.4f} when made"
        self.query_one("#told", Static).update(f"{told}\nremoved by nothing but you: every reply is paid for once")
        figures = [Col(name, 11, right=True) for name in ("entries", "tokens in", "tokens out", "USD")]
        models = held.models
        self.query_one("#models", Rows).load([Col("model", 34), *figures], len(models), models.__getitem__)
        heads = [
            Col("when", 16),
            Col("model", 22),
            Col("prompt", 16),
            Col("user", 14),
            Col("tokens", 7, right=True),
        ]
        self.query_one("#replies", Rows).load(heads, len(held.replies), self._line)

    def _line(self, number: int) -> tuple[str, ...]:
        assert self.held is not None
        entry = self.held.replies[number]
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.get("time", 0)))
        usage = entry.get("usage") or {}
        aside = " (set aside)" if entry.get("rejected") else ""
        tokens = usage.get("completion_tokens", 0)
        model = f"{entry.get('model') or entry.get('backend')}{aside}"
        return when, model, str(entry.get("prompt", "")), str(entry.get("user") or ""), short(tokens)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if event.rows.id == "replies" and self.held is not None and event.row < len(self.held.replies):
            self.query_one("#reply", Static).update(paragraph(self.held.replies[event.row].get("reply", "")))

    def failed(self, message: str) -> None:
        self.query_one("#told", Static).update(f"! {safe(message, 300)}")


def read_cache(folder: Path) -> Held:
    """Reads every entry. A workspace without a cache stays without one."""
    if not (folder / "cache.db").is_file():
        return Held(entries=0, bytes=0, cost_usd=0.0, models=[], replies=[])
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
    return Held(
        entries=stats.entries,
        bytes=stats.bytes,
        cost_usd=stats.cost_usd,
        models=models,
        replies=list(reversed(replies)),
    )
