"""Lines on a stage that asks an LLM: its calls, its failures, what it costs, and the last reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edt_cli.ui.text import bar, duration, paragraph, safe
from edt_cli.ui.tones import Tinted, muted

Row = list[str]


def count(llm: Mapping[str, Any], name: str) -> float:
    """Return a number of a `Calls` event, 0 if it has none."""
    value = llm.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def budget(llm: Mapping[str, Any]) -> str:
    """Return what was spent, in few words: `$0.50 of $2.00`; "" for a stage without money."""
    if "spent_usd" not in llm:
        return ""
    limit = count(llm, "limit_usd")
    return f"${count(llm, 'spent_usd'):.2f}" + (f" of ${limit:.2f}" if limit else "")


def lost(llm: Mapping[str, Any]) -> dict[str, int]:
    """Return the questions without an answer, by cause."""
    failed = llm.get("failed")
    causes = failed.items() if isinstance(failed, dict) else ()
    return {safe(cause, 40): number for cause, number in causes if isinstance(number, int) and number}


def money_lines(llm: Mapping[str, Any], width: int) -> list[Row]:
    """Return the lines on a stage, at most `width` cells wide but for the last reply."""
    causes = lost(llm)
    failed, hits, new = sum(causes.values()), count(llm, "hits"), count(llm, "new")
    done = hits + new + failed
    total = done + count(llm, "calls_left")
    pace = f", {count(llm, 'calls_per_s'):.1f} a second" if count(llm, "calls_per_s") else ""
    left = llm.get("seconds_left")
    pace += f", {duration(float(left))} left" if isinstance(left, int | float) else ""
    rows: list[Row] = [
        [f"calls {done:,.0f} of about {total:,.0f}{pace}"],
        _letters(hits, new, failed, total or done, max(10, min(60, width - 2))),
        [
            Tinted(f"h hits {hits:,.0f}", "good"),
            "   ",
            Tinted(f"n new {new:,.0f}", "live"),
            f"   retries {count(llm, 'retries'):,.0f}   ",
            Tinted(f"f failures {failed:,.0f}", "bad" if failed else ""),
        ],
    ]
    if held := count(llm, "held_s"):
        rows.append([Tinted(f"held for {held:.0f} s: a rate limit, or a provider that does not answer", "warn")])
    if causes:
        told = ", ".join(f"{cause} {number}" for cause, number in causes.items())
        rows.append([Tinted(f"failures by cause: {told}", "bad")])
    if "prompt_tokens" in llm:
        told = f"{count(llm, 'prompt_tokens'):,.0f} in, {count(llm, 'completion_tokens'):,.0f} out"
        rows.append([f"tokens {told}"])
    if "spent_usd" in llm:
        rows.append(_spent(llm, new))
    last = llm.get("last")
    if isinstance(last, dict) and last.get("text"):
        rows += [[], [muted(f"last reply, about user {safe(last.get('user', ''), 40)}")]]
        rows += [[line] for line in paragraph(last["text"], 4000).splitlines()]
    return rows


def _letters(hits: float, new: float, failed: float, total: float, room: int) -> Row:
    """Return a bar in which each kind of outcome has its letter."""
    scale = room / max(1.0, total)
    parts = (("h", hits, "good"), ("n", new, "live"), ("f", failed, "bad"))
    row: Row = ["["]
    left = room
    for letter, value, tone in parts:
        cells = min(left, round(value * scale))
        row.append(Tinted(letter * cells, tone))
        left -= cells
    return [*row, muted("." * left), "]"]


def _spent(llm: Mapping[str, Any], new: float) -> Row:
    spent, limit = count(llm, "spent_usd"), count(llm, "limit_usd")
    row: Row = [f"spent ${spent:.4f}"]
    if new:
        projected = spent + spent / new * count(llm, "calls_left")
        over = bool(limit) and projected > limit
        row.append(Tinted(f"   projected ${projected:.4f}", "bad" if over else ""))
    if not limit:
        return [*row, "   no limit"]
    share = spent / limit
    return [*row, f"   limit ${limit:.4f} ", Tinted(bar(share, 10), "bad" if share > 0.9 else "good")]
