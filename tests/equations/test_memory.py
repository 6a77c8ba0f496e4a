"""The memory's three terms against a slow float64 version, and that it does not know the answer in training."""

import math

import numpy as np
import pytest
import torch
from toy import batch_of, domains_of_size, random_sequences, sequences, text_table, view_of

from edt_cli.config import ModelSettings
from edt_cli.models.memory import Memory

DOMAINS = domains_of_size(6, 5)
ROWS = random_sequences(DOMAINS, rows=5, length=8)
TABLE = text_table(DOMAINS, ROWS, without_text=(2, 9))
WINDOW, STEPS = 4, 3


def memory_of(rows, neighbours: int = 11) -> Memory:
    s = ModelSettings(memory=True, memory_window=WINDOW, knn_window=STEPS, memory_neighbours=neighbours)
    return Memory(view_of(DOMAINS, rows), TABLE, s)


def meetings(h: int, v: int) -> float:
    total = 0.0
    for row in range(len(ROWS)):
        items = ROWS.of(row).tolist()
        for i in range(len(items)):
            for j in range(len(items)):
                if i != j and abs(i - j) <= STEPS and items[i] == h and items[j] == v:
                    total += 1 / abs(i - j)
    return total


def cosine(h: int, v: int) -> float:
    """Of TF-IDF over the four-character grams of words; scikit-learn's smoothed idf, 1 + log tf."""
    titles = [f" {' '.join(t.split())} " for t in view_of(DOMAINS, ROWS).catalogue["title"].to_list()]
    own = titles[:6] if v <= 6 else titles[6:]

    def grams(title: str) -> list[str]:
        return [f" {w} "[i : i + 4] for w in title.split() for i in range(max(1, len(w) - 1))]

    holders = {g: sum(g in grams(t) for t in own) for t in own for g in grams(t)}

    def vector(title: str) -> dict[str, float]:
        found = grams(title)
        kept = {g for g in found if holders[g] == 2}
        raw = {g: (1 + math.log(found.count(g))) * (1 + math.log((1 + len(own)) / (1 + holders[g]))) for g in kept}
        norm = math.sqrt(sum(x * x for x in raw.values())) or 1.0
        return {g: x / norm for g, x in raw.items()}

    one, other = vector(titles[h - 1]), vector(titles[v - 1])
    return sum(x * other.get(g, 0.0) for g, x in one.items())


def slow(memory: Memory, history: list[int], v: int, domain: int) -> float:
    counts = np.bincount(ROWS.items, minlength=12)
    newest = history[::-1][:WINDOW]
    met = sum(meetings(h, v) / math.sqrt(max(1, counts[h])) / a**2 for a, h in enumerate(newest, start=1))
    own = [h for h in newest if (h > 6) == (v > 6)]
    text = TABLE.text.double().numpy()
    titles = max([0.0, *(cosine(h, v) for h in own)])
    texts = max([0.0, *(float(text[h] @ text[v]) for h in own)])
    w = memory.weight[domain].tolist()
    return w[0] * math.log1p(30 * met) + w[1] * math.log1p(counts[v]) + w[2] * titles + w[3] * texts


def test_of_items_is_the_three_terms():
    memory = memory_of(ROWS)
    histories = [[1, 7, 3, 8, 2], [9], [10, 5, 11, 6, 3, 3]]
    batch = batch_of(TABLE, sequences(*histories))
    windows = memory.windows(batch.items)[torch.arange(3), batch.lengths - 1]
    with torch.no_grad():
        for domain, items in enumerate((range(1, 7), range(7, 12))):
            expected = [[slow(memory, history, v, domain) for v in items] for history in histories]
            every = memory.of_items(windows, domain)
            torch.testing.assert_close(every.double(), torch.tensor(expected, dtype=torch.float64))
            drawn = torch.tensor([items[3], items[0]])
            torch.testing.assert_close(memory.of_items(windows, domain, drawn), every[:, [3, 0]])


@pytest.mark.parametrize("row", range(3))
def test_in_training_a_user_s_own_meetings_do_not_count(row):
    """The target's score is what a memory of everybody else would give it, the history's counts aside."""
    rows = sequences([1, 7, 3, 8], [7, 3, 9, 1, 8], [2, 3, 7, 10])
    with_user, history = memory_of(rows), rows.of(row)[:3].tolist()
    others = sequences(*(rows.of(u).tolist() for u in range(3) if u != row), history)
    without = memory_of(others)
    without.scale = with_user.scale
    without.meetings = [
        type(known)(known.columns, known.weights / memory_of(others).scale[:, None] * with_user.scale[:, None])
        for known in without.meetings
    ]
    target = int(rows.of(row)[3])
    domain = int(target > 6)
    window = torch.tensor([[*history[::-1], 0]])
    with torch.no_grad():
        found = with_user.of_targets(window, torch.tensor([target]), domain)
        expected = without.of_items(window, domain, torch.tensor([target]))[:, 0]
    torch.testing.assert_close(found, expected)


def test_a_window_holds_the_newest_items_up_to_a_position_and_none_after():
    memory = memory_of(ROWS)
    windows = memory.windows(torch.tensor([[4, 7, 3, 8, 2, 0]]))
    assert windows[0].tolist() == [
        [4, 0, 0, 0],
        [7, 4, 0, 0],
        [3, 7, 4, 0],
        [8, 3, 7, 4],
        [2, 8, 3, 7],
        [0, 2, 8, 3],
    ]


def test_the_nearest_neighbours_are_kept():
    few, all_of_them = memory_of(ROWS, neighbours=2), memory_of(ROWS)
    for domain in range(2):
        kept, known = ([m.meetings[domain], *m.alike[domain]] for m in (few, all_of_them))
        for one, other in zip(kept, known, strict=True):
            best = other.weights.sort(dim=1, descending=True).values[:, :2]
            torch.testing.assert_close(one.weights, best)
