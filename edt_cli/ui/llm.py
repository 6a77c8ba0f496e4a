"""Section of the reply cache: its entries and cost by model, and the replies."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from edt_cli.ui.dialogs import Question
from edt_cli.ui.messages import TryPrompt
from edt_cli.ui.pane import Pane
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import paragraph, safe, short, size
from edt_cli.ui.tones import Tinted, lines, muted

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

    BINDINGS = [
        Binding("slash", "filter", "Search replies", key_display="/"),
        Binding("a", "try_prompt", "Try a prompt"),
    ]
    DEFAULT_CSS = """
    LlmCache #left { height: 1fr; width: 1fr; }
    LlmCache #summary { height: auto; max-height: 4; }
    LlmCache #models { height: 5; }
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.cache_content: CacheContent | None = None
        self.text = ""
        self._replies: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="left"):
            yield Static(id="summary", classes="bar", markup=False)
            yield Rows(id="models", empty="nothing was asked yet")
            yield Rows(id="replies", empty="no reply of an LLM is kept here")
        with VerticalScroll(id="reply-box", classes="frame facts", can_focus=True) as box:
            box.border_title = "reply"
            yield Static(id="reply", markup=False)

    def entered(self) -> None:
        self.query_one("#summary", Static).update("counting ... (a second for each 40,000 entries)")
        self.reads(lambda: read_cache(self.folder), self._show)

    def _show(self, cache: CacheContent) -> None:
        self.cache_content = cache
        text = f"{cache.entries:,} entries, {size(cache.bytes)} on disk; they cost ${cache.cost_usd:.4f} when made"
        self.query_one("#summary", Static).update(
            f"{text}\nremoved by nothing but you: every reply is paid for once"
        )
        figures = [Col(name, 11, right=True) for name in ("entries", "tokens in", "tokens out", "USD")]
        models = cache.models
        self.query_one("#models", Rows).load([Col("model", 28), *figures], len(models), models.__getitem__)
        self._filter(self.text)

    def action_filter(self) -> None:
        hint = "words in a reply, its prompt or its users; all must be there"
        self.app.push_screen(Question(hint, self.text, self._filter), self._filter)

    def action_try_prompt(self) -> None:
        """Ask for a prompt to try, that of the reply under the cursor, on the user whom it is about."""
        cursor = self.query_one("#replies", Rows).cursor
        entry = self._replies[cursor] if cursor < len(self._replies) else {}
        users = entry.get("users")
        user = str(users[0]) if isinstance(users, list) and users else ""
        self.post_message(TryPrompt(user=user, prompt=_prompt(entry).partition("@")[0]))

    def clear_filter(self) -> bool:
        had = bool(self.text)
        if had:
            self._filter("")
        return had

    def _filter(self, text: str | None) -> None:
        """Show the replies with all words of a text in them."""
        if text is None or self.cache_content is None:
            return
        self.text = text
        words = text.casefold().split()
        self._replies = [
            entry for entry in self.cache_content.replies if all(word in _searched(entry) for word in words)
        ]
        heads = [
            Col("when", 16),
            Col("model", 20),
            Col("prompt", 14),
            Col("user", 16),
            Col("tokens", 7, right=True),
        ]
        rows = self.query_one("#replies", Rows)
        rows.empty = f"no reply has {safe(text, 100)!r} in it" if text else "no reply of an LLM is kept here"
        rows.load(heads, len(self._replies), self._line)

    def _line(self, number: int) -> tuple[str, ...]:
        entry = self._replies[number]
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.get("time", 0)))
        usage = entry.get("usage") or {}
        aside = " (set aside)" if entry.get("rejected") else ""
        tokens = usage.get("completion_tokens", 0)
        model = f"{entry.get('model') or entry.get('backend')}{aside}"
        return when, model, _prompt(entry), _users(entry), short(tokens)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if event.rows.id == "replies":
            entry = self._replies[event.row] if event.row < len(self._replies) else {}
            self.query_one("#reply", Static).update(reply_lines(entry))
            self.query_one("#reply-box").scroll_home(animate=False)

    def failed(self, message: str) -> None:
        self.query_one("#summary", Static).update(f"! {safe(message, 300)}")


def reply_lines(entry: dict[str, Any]) -> Content:
    """Return a reply, and the messages that it answers."""
    rows: list[list[str]] = [[line] for line in paragraph(entry.get("reply", "")).splitlines()]
    messages = _asked(entry).get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, list) and len(message) == 2:
            rows += [[], [Tinted(f"{safe(message[0], 40)}, {_prompt(entry)}", "accent")]]
            rows += [[muted(line)] for line in paragraph(message[1]).splitlines()]
    return lines(rows)


def _searched(entry: dict[str, Any]) -> str:
    """Return what is searched of an entry."""
    users = entry.get("users")
    return " ".join([str(entry.get("reply", "")), _prompt(entry), *map(str, users or ())]).casefold()


def _asked(entry: dict[str, Any]) -> dict[str, Any]:
    asked = entry.get("asked")
    return asked if isinstance(asked, dict) else {}


def _prompt(entry: dict[str, Any]) -> str:
    """Return the name and version of the prompt of an entry, such as `generate@1`."""
    return safe(_asked(entry).get("prompt", ""), 60)


def _users(entry: dict[str, Any]) -> str:
    """Return the first user that a question was about, and how many others had the same."""
    users = entry.get("users")
    if not isinstance(users, list) or not users:
        return ""
    return safe(users[0], 60) + (f" and {len(users) - 1} more" if len(users) > 1 else "")


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
