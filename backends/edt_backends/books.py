"""The ledger's books beside the cache's: what was paid for and what is kept say the same, or where they do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edt_backends.base import Usage
from edt_backends.ledger import PICO, Delivered, Ledger
from edt_backends.store import Entry, ReplyCache, digest

EMBED = "embed"
"""Prompt of embeddings in the ledger; a call there is a batch, in the cache each of its vectors is an entry."""
CLOSE = 1e-6
"""Difference of sums of USD that is rounding."""


@dataclass
class Difference:
    """Something in which the two differ.

    Attributes:
        backend: The backend's name.
        prompt: Name and version of the prompt; "embed" for vectors.
        what: What is different.
        count: How often.
        usd: What it cost; None if a price is not known.
    """

    backend: str
    prompt: str
    what: str
    count: int
    usd: float | None


@dataclass
class Books:
    """Result of `compare_books`.

    Attributes:
        agreed: Replies that stand in both with the same tokens and cost.
        agreed_usd: Their cost, as far as it is known.
        imported: Replies that others paid for.
        unconfirmed: Calls of which no word came back; the ledger counts them with their most.
        unconfirmed_usd: That most.
        differences: What does not agree.
    """

    agreed: int = 0
    agreed_usd: float = 0.0
    imported: int = 0
    unconfirmed: int = 0
    unconfirmed_usd: float = 0.0
    differences: list[Difference] = field(default_factory=list)


def compare_books(cache: ReplyCache, ledger: Ledger, pings: frozenset[str] = frozenset()) -> Books:
    """Hold every delivered call in the ledger against the replies in the cache, those set aside included.

    Args:
        cache: The cache.
        ledger: The ledger.
        pings: Prompts whose replies are not kept.
    """
    from edt_backends.budget import pico

    books = Books()
    paid: Counter[Delivered] = Counter(call for call in ledger.delivered() if call.prompt not in pings)
    bought: dict[str, tuple[int, float]] = {}
    kept: dict[str, list[float]] = {}
    foreign: Counter[str] = Counter()
    for call in [call for call in paid if call.prompt == EMBED]:
        tokens, usd = bought.get(call.backend, (0, 0.0))
        count = paid.pop(call)
        bought[call.backend] = tokens + count * call.prompt_tokens, usd + count * (call.spent or 0) / PICO
    extra: Counter[Delivered] = Counter()
    for key, entry in cache.entries():
        usage = Usage(**entry["usage"])
        if entry.get("imported"):
            books.imported += 1
            continue
        if "vector" in entry:
            sums = kept.setdefault(entry["backend"], [0, 0.0, 0])
            for at, value in enumerate((usage.prompt_tokens, usage.cost_usd or 0.0, 1)):
                sums[at] += value
            continue
        if not _is_its_own(key, entry):
            foreign[entry["backend"]] += 1
            continue
        call = Delivered(
            backend=entry["backend"],
            prompt=entry["asked"]["prompt"],
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            spent=None if usage.cost_usd is None else pico(usage.cost_usd),
        )
        if paid[call]:
            paid[call] -= 1
            books.agreed += 1
            books.agreed_usd += usage.cost_usd or 0.0
        else:
            extra[call] += 1
    books.differences += [
        Difference(backend, "", "under a key that is not that of its question", count, None)
        for backend, count in foreign.items()
    ]
    books.differences += _summed("paid for, and no such reply is kept", +paid)
    books.differences += _summed("kept, and no such call is in the ledger", extra)
    books.differences += _vectors(bought, kept)
    for account in ledger.accounts().values():
        books.unconfirmed += account.unconfirmed
        books.unconfirmed_usd += account.unconfirmed_usd
    return books


def _is_its_own(key: str, entry: Entry) -> bool:
    asked = entry.get("asked")
    return isinstance(asked, dict) and key.partition(" ")[0] == digest(asked)


def _summed(what: str, calls: Counter[Delivered]) -> list[Difference]:
    """Return one difference for each backend and prompt."""
    found: dict[tuple[str, str], Difference] = {}
    for call, count in calls.items():
        place = call.backend, call.prompt
        one = found.setdefault(place, Difference(call.backend, call.prompt, what, 0, 0.0))
        one.count += count
        known = None if call.spent is None or one.usd is None else one.usd + count * call.spent / PICO
        one.usd = known
    return list(found.values())


def _vectors(bought: dict[str, tuple[int, float]], kept: dict[str, list[float]]) -> list[Difference]:
    """Compare the sums over vectors with those over their batches."""
    differences = []
    for backend in sorted(bought.keys() | kept.keys()):
        tokens, usd = bought.get(backend, (0, 0.0))
        kept_tokens, kept_usd, count = kept.get(backend, [0, 0.0, 0])
        if tokens != kept_tokens or abs(usd - kept_usd) > CLOSE:
            what = f"{tokens:,} tokens paid for, {kept_tokens:,.0f} in the vectors that are kept"
            differences.append(Difference(backend, EMBED, what, int(count), usd - kept_usd))
    return differences
