"""Summary of an LLM stage as lines: what was asked, what came of it, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Lines = list[tuple[str, str]]


def summary_lines(summary: Mapping[str, Any]) -> Lines:
    """Return the lines of an augmentation's or a profiling's summary; none of one that is switched off."""
    if "users" not in summary:
        return []
    return [
        *_asked(summary),
        *(_kept(summary) if "generated" in summary else _written(summary)),
        *_content(summary),
        *_cost(summary),
    ]


def shard_lines(asked: Mapping[str, Any]) -> Lines:
    """Return the lines of what was asked about the users of a shard."""
    lines = [("asked", f"{asked['questions']:,} questions about {asked['users']:,} users")]
    if asked["failed"]:
        lines.append(("failed", _counts(asked["failed"])))
    return [*lines, *_cost({"llm": asked["llm"], "asked_users": asked["users"]})]


def _asked(summary: Mapping[str, Any]) -> Lines:
    users, asked, failed = summary["users"], summary["asked_users"], summary["failed"]
    lines = [("users", f"{asked:,} asked about, of {summary['eligible_users']:,} eligible and {users:,} in all")]
    if without := summary["users_without_text"]:
        lines.append(("without text", f"{without:,} users, of whom nothing can be asked"))
    if "asked" in summary:
        answered = summary["asked"] - sum(failed.values())
        lines.append(("questions", f"{summary['asked']:,} asked, {answered:,} answered"))
    if failed:
        questions = summary.get("asked", asked)
        share = f" ({sum(failed.values()) / max(1, questions):.1%})" if "asked" in summary else ""
        lines.append(("failed", _counts(failed) + share))
    mended, repaired = summary["llm"].get("mended", {}), summary["llm"]["repairs"]
    if mended:
        lines.append(("replies mended", _counts(mended)))
    if shortened := summary["llm"].get("shortened"):
        lines.append(("shortened", f"{shortened:,} questions, too long, asked about the newest purchases alone"))
    if repaired:
        lines.append(("asked twice", f"{repaired:,}, of which {summary['llm']['repaired']:,} were then answered"))
    return lines


def _kept(summary: Mapping[str, Any]) -> Lines:
    lines = [
        ("items", f"{summary['generated']:,} generated, {summary['kept']:,} kept ({summary['share_kept']:.1%})"),
        ("not kept", _counts({why: count for why, count in summary["reasons"].items() if why != "kept"}) or "none"),
    ]
    for domain, kinds in summary["inserted"].items():
        taus = summary["tau"].get(domain, {})
        parts = (
            f"{count:,} of users {kind}{' items' if kind == 'without' else ''}"
            + (f" (tau {taus[kind]:.4f})" if kind in taus else "")
            for kind, count in kinds.items()
        )
        lines.append(
            (f"kept in {domain}", ", ".join(parts) + f"; {summary['different_items'][domain]:,} different")
        )
    if users := summary.get("calibrated_on"):
        lines.append(("tau", f"calibrated on these {users:,} users; a run on others calibrates its own"))
    if anchors := summary.get("anchors"):
        same, named = anchors["agree"], anchors["named"]
        share = f"{same:,} ({same / named:.1%})"
        lines.append(("purchases named", f"for {named:,} items, by the cosine the same one for {share}"))
    lines.append(("kept by r", ", ".join(f"{r}: {count:,}" for r, count in summary["inserted_by_r"].items())))
    before, after = summary["average_length_before"], summary["average_length_after"]
    lines.append(("items a user", f"{before:.2f} before, {after:.2f} after"))
    return lines


def _written(summary: Mapping[str, Any]) -> Lines:
    degrees = ", ".join(f"{number}: {count:,}" for number, count in enumerate(summary["degrees"]))
    return [
        ("profiles", f"{summary['profiles']:,} written ({summary['chain']})"),
        ("users by degree", degrees),
    ]


def _content(summary: Mapping[str, Any]) -> Lines:
    if (content := summary.get("content")) is None:
        return []
    texts, what = content["texts"], "titles" if "generated" in summary else "profiles"
    different, repeating = (
        f"{content[name]:,} ({content[name] / texts:.0%})" for name in ("different", "repeating")
    )
    lines = [(f"the {what}", f"{texts:,}, of which {different} differ and {repeating} repeat the prompt")]
    return lines + [("such as" if not at else "", sample) for at, sample in enumerate(content["samples"])]


def _cost(summary: Mapping[str, Any]) -> Lines:
    llm, users = summary["llm"], max(1, summary["asked_users"])
    new = llm["replies"] - llm["cached"]
    lines = [("replies", f"{llm['replies']:,}, of which {new:,} are new and {llm['cached']:,} from the cache")]
    if llm["prompt_tokens"]:
        tokens = llm["prompt_tokens"] + llm["completion_tokens"]
        into, out = f"{llm['prompt_tokens']:,} in", f"{llm['completion_tokens']:,} out"
        if cached := llm.get("cached_prompt_tokens"):
            into += f" ({cached / llm['prompt_tokens']:.0%} known to the provider's cache)"
        lines.append(("tokens", f"{into}, {out}; {tokens / users:,.0f} a user"))
        worth, spent = llm["cost_usd"], llm["spent_usd"]
        unpriced = f"; the price of {llm['unpriced']:,} replies is not known" if llm["unpriced"] else ""
        lines.append(("USD", f"{worth:.4f} ({worth / users:.6f} a user), {spent:.4f} of it now{unpriced}"))
    if llm.get("seconds"):
        mean = llm["seconds"] / max(1, llm["replies"])
        lines.append(
            (
                "seconds",
                f"{mean:.1f} a reply, {llm['seconds'] / users:.1f} a user, {llm['slowest']:.1f} the slowest",
            )
        )
    return lines


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())
