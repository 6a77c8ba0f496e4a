"""The memory's terms against a slow float64 version, and that it does not know the answer in training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import batch_of, domains_of_size, random_sequences, sequences, text_table, view_of

from edt_cli.config import ModelSettings
from edt_cli.data.dataset import Sequences
from edt_cli.models.batch import domain_rows
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.memory import Memory

DOMAINS = domains_of_size(6, 5)
ROWS = random_sequences(DOMAINS, rows=5, length=8)
DAY, PERIOD = 86_400, 10
STAMPS = DAY * np.sort(np.random.default_rng(4).integers(100, 150, (5, 8)), axis=1)
ROWS = replace(ROWS, times=STAMPS.ravel())
TABLE = text_table(DOMAINS, ROWS, without_text=(2, 9))
WINDOW, STEPS = 4, 3


def memory_of(rows, neighbours: int = 11, period: int | None = None, sequence: str = "mixed") -> Memory:
    s = ModelSettings(sequence=sequence, knn_window=STEPS)
    o = LLMEDTOptions(memory=True, memory_window=WINDOW, memory_neighbours=neighbours, memory_period=period)
    memory = Memory(view_of(DOMAINS, rows), TABLE, s, o)
    torch.nn.init.uniform_(memory.weight, 0.1, 1.0, generator=torch.Generator().manual_seed(0))
    return memory


def meetings(h: int, v: int, rows: Sequences = ROWS, without: int | None = None) -> float:
    """without: a row whose meetings do not count."""
    total = 0.0
    for row in range(len(rows)):
        items = [] if row == without else rows.of(row).tolist()
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


def slow(memory: Memory, history: list[int], v: int, domain: int, now: int | None = None) -> float:
    """now: the day of the history's newest item, where the memory has seasons."""
    counts = np.bincount(ROWS.items, minlength=12)
    newest = history[::-1][:WINDOW]
    met = sum(meetings(h, v) / math.sqrt(max(1, counts[h])) / a**2 for a, h in enumerate(newest, start=1))
    own = [h for h in newest if (h > 6) == (v > 6)]
    text = TABLE.text.double().numpy()
    titles = max([0.0, *(cosine(h, v) for h in own)])
    texts = max([0.0, *(float(text[h] @ text[v]) for h in own)])
    w = memory.weight[domain].tolist()
    score = w[0] * math.log1p(30 * met) + w[1] * math.log1p(counts[v]) + w[2] * titles + w[3] * texts
    if now is None:
        return score
    first = STAMPS.min() // DAY
    periods = (STAMPS.ravel()[ROWS.items == v] // DAY - first) // PERIOD
    of_now = min((now - first) // PERIOD, (STAMPS.max() // DAY - first) // PERIOD)
    in_it, until = int((periods == of_now).sum()), int((periods <= of_now).sum())
    return score + w[4] * math.log1p(in_it) + w[5] * math.log1p(until)


def test_of_items_is_the_sum_of_its_terms():
    memory = memory_of(ROWS)
    histories = [[1, 7, 3, 8, 2], [9], [10, 5, 11, 6, 3, 3]]
    batch = batch_of(TABLE, sequences(*histories))
    windows = memory.context(batch)[torch.arange(3), batch.lengths - 1]
    with torch.no_grad():
        for domain, items in enumerate((range(1, 7), range(7, 12))):
            expected = [[slow(memory, history, v, domain) for v in items] for history in histories]
            every = memory.of_items(windows, domain)
            torch.testing.assert_close(every.double(), torch.tensor(expected, dtype=torch.float64))
            drawn = torch.tensor([items[3], items[0]])
            torch.testing.assert_close(memory.of_items(windows, domain, drawn), every[:, [3, 0]])


def test_seasons_add_what_was_had_in_the_newest_item_s_period_and_until_then():
    memory = memory_of(ROWS, period=PERIOD)
    assert memory.width == WINDOW + 2
    histories, days = [[1, 7, 3], [9], [10, 5]], [[100, 110, 121], [149], [90, 400]]
    rows = replace(sequences(*histories), times=DAY * np.array([day for row in days for day in row]) + 5)
    batch = batch_of(TABLE, rows)
    windows = memory.context(batch)[torch.arange(3), batch.lengths - 1]
    with torch.no_grad():
        for domain, items in enumerate((range(1, 7), range(7, 12))):
            expected = [
                [slow(memory, history, v, domain, day[-1]) for v in items]
                for history, day in zip(histories, days, strict=True)
            ]
            every = memory.of_items(windows, domain)
            torch.testing.assert_close(every.double(), torch.tensor(expected, dtype=torch.float64))
            drawn = torch.tensor([items[3], items[0]])
            torch.testing.assert_close(memory.of_items(windows, domain, drawn), every[:, [3, 0]])


def test_when_a_target_comes_is_not_told():
    """Not to the scores of items, only to what is left out of the target's own count."""
    memory = memory_of(ROWS, period=PERIOD)
    found = []
    for day in (120, 149):
        rows = replace(sequences([1, 7, 3]), times=DAY * np.array([101, 115, day]))
        windows = memory.context(batch_of(TABLE, rows))[0, :2]
        with torch.no_grad():
            found.append(memory.of_items(windows, 0))
    assert torch.equal(*found)


def test_a_history_without_times_stands_in_the_newest_period():
    memory = memory_of(ROWS, period=PERIOD)
    history = sequences([1, 7])
    timed = replace(history, times=np.full(2, STAMPS.max()))
    windows = [memory.context(batch_of(TABLE, rows))[:, 1] for rows in (history, timed)]
    with torch.no_grad():
        assert torch.equal(*(memory.of_items(one, 0) for one in windows))


@pytest.mark.parametrize("row", range(3))
def test_in_training_a_user_s_own_meetings_do_not_count(row):
    """The target's score is what a memory of everybody else would give it, the history's counts aside."""
    rows = sequences([1, 7, 3, 8], [7, 3, 9, 1, 8], [2, 3, 7, 10], [5, 5])
    # The target of one comes in its history's period, of another later; the last row spans all periods.
    rows = replace(rows, times=DAY * np.array([5, 8, 11, 19, 0, 3, 12, 14, 31, 2, 4, 21, 22, 0, 99]))
    with_user, history = memory_of(rows, period=PERIOD), rows.of(row)[:3].tolist()
    kept = np.flatnonzero((rows.users != row) | (np.arange(len(rows.items)) < rows.offsets[row] + 3))
    others = replace(
        sequences(*(rows.items[kept][rows.users[kept] == u].tolist() for u in range(4))), times=rows.times[kept]
    )
    without = memory_of(others, period=PERIOD)
    without.scale = with_user.scale
    without.cooccurring = [
        type(known)(known.columns, known.weights / memory_of(others).scale[:, None] * with_user.scale[:, None])
        for known in without.cooccurring
    ]
    target = int(rows.of(row)[3])
    domain = int(target > 6)
    window = with_user.context(batch_of(TABLE, rows))[row, 2][None]
    assert window[0].tolist()[:WINDOW] == [*history[::-1], 0]
    with torch.no_grad():
        found = with_user.of_targets(window, torch.tensor([target]), domain)
        expected = without.of_items(window, domain, torch.tensor([target]))[:, 0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("row", [[1, 2, 1, 3], [3, 1, 3], [2, 3, 1, 3, 1, 3]])
def test_pairs_that_no_other_user_has_count_nothing(row):
    rows = sequences([4, 5, 6, 2, 6], row, [7, 2, 8, 1])
    memory = memory_of(rows)
    with torch.no_grad():
        memory.weight.zero_()[:, 0] = 1.0
        window = memory.context(batch_of(TABLE, rows))[1, len(row) - 2][None]
        assert memory.of_targets(window, torch.tensor([3]), 0).item() == pytest.approx(0, abs=1e-5)
        assert memory.of_items(window, 0, torch.tensor([3])).item() > 1


def test_such_pairs_count_nothing_in_bfloat16_either():
    """Three hundred users whose last item nobody else has: products in bfloat16 leave one of them a rest."""
    draw, domains = np.random.default_rng(0), domains_of_size(315, 1)
    rows = sequences(*([*draw.integers(1, 15, 10).tolist(), 15 + user] for user in range(300)))
    table = text_table(domains, rows)
    memory = Memory(view_of(domains, rows), table, ModelSettings(), LLMEDTOptions(memory=True))
    windows, targets = memory.context(batch_of(table, rows))[:, 9], torch.arange(15, 315)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        memory.weight.zero_()[:, 0] = 1.0
        assert memory.of_targets(windows, targets, 0).max().item() == pytest.approx(0, abs=1e-5)


def told_by_others(memory: Memory, rows: Sequences, user: int, history: list[int], v: int, now: int) -> float:
    """The terms of pairs, counts and seasons (now: the day of the newest item), from all rows but one."""
    counts, w = np.bincount(rows.items, minlength=12), memory.weight[int(v > 6)].tolist()
    newest = history[::-1][:WINDOW]
    met = sum(
        meetings(h, v, rows, without=user) / math.sqrt(max(1, counts[h])) / a**2 for a, h in enumerate(newest, 1)
    )
    periods = (rows.times - rows.times.min()) // DAY // PERIOD
    had = periods[(rows.items == v) & (rows.users != user)]
    of_now = (now - rows.times.min() // DAY) // PERIOD
    in_it, until = int((had == of_now).sum()), int((had <= of_now).sum())
    score = w[0] * math.log1p(30 * met) + w[1] * math.log1p(len(had))
    return score + w[4] * math.log1p(in_it) + w[5] * math.log1p(until)


@pytest.mark.parametrize("what", ["as it happened", "with insertions", "one domain a row"])
@pytest.mark.parametrize("seed", range(4))
def test_a_target_that_was_learned_has_the_score_that_others_give_it(seed, what):
    """Whatever the user's own repeats add, and wherever what never happened stands in between."""
    draw = np.random.default_rng(seed)
    rows = sequences(*(draw.choice([1, 2, 3, 4, 7, 8], length).tolist() for length in (9, 7, 8)))
    rows = replace(rows, times=DAY * np.concatenate([np.sort(draw.integers(0, 60, n)) for n in rows.lengths]))
    memory = memory_of(rows, period=PERIOD, sequence="single" if what == "one domain a row" else "mixed")
    with torch.no_grad():
        memory.weight[:, 2:4] = 0
    shown = rows
    if what == "one domain a row":
        shown = domain_rows(rows, TABLE)
    elif what == "with insertions":
        at = np.sort(draw.choice(len(rows.items), 6, replace=False))
        items, times = np.insert(rows.items, at, 11), np.insert(rows.times, at, rows.times[at])
        shown = Sequences(rows.offsets + np.searchsorted(at, rows.offsets), items, times)
    batch = batch_of(TABLE, shown)
    windows = memory.context(batch)
    for domain in range(2):
        asked = torch.nonzero((batch.targets > 0) & (batch.domains == domain)).tolist()
        expected = []
        for row, j in asked:
            user, history = row // 2 if what == "one domain a row" else row, shown.of(row)[: j + 1].tolist()
            day = int(batch.times[row, j]) // DAY
            expected.append(told_by_others(memory, rows, user, history, int(batch.targets[row, j]), day))
        at = tuple(torch.tensor(asked).T)
        with torch.no_grad():
            found = memory.of_targets(windows[at], batch.targets[at], domain)
        torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=0)


def test_a_meeting_is_left_out_only_of_what_was_kept():
    memory, seen = memory_of(ROWS, neighbours=2), set()
    with torch.no_grad():
        memory.weight.zero_()[:, 0] = 1.0
    windows = memory.context(batch_of(TABLE, ROWS))
    for row in range(len(ROWS)):
        items = ROWS.of(row).tolist()
        for j in range(1, len(items)):
            target, domain, met = items[j], int(items[j] > 6), 0.0
            before = items[max(0, j - WINDOW) : j][::-1]
            for age, h in enumerate(before, start=1):
                column = target - int(memory.starts[domain])
                kept = column in memory.cooccurring[domain].columns[h].tolist()
                seen.add((kept, len(before) > 1))
                met += kept * meetings(h, target, without=row) * float(memory.scale[h]) / age**2
            with torch.no_grad():
                found = memory.of_targets(windows[row, j - 1][None], torch.tensor([target]), domain)
            assert found.item() == pytest.approx(math.log1p(30 * max(0.0, met)), abs=1e-5)
    assert {(True, True), (False, True)} <= seen


def test_a_window_holds_the_newest_items_up_to_a_position_and_none_after():
    memory = memory_of(ROWS)
    windows = memory.context(batch_of(TABLE, sequences([4, 7, 3, 8, 2], [1] * 6)))
    assert windows[0, :, :WINDOW].tolist() == [
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
        kept, known = ([m.cooccurring[domain], *m.similar[domain]] for m in (few, all_of_them))
        for one, other in zip(kept, known, strict=True):
            best = other.weights.sort(dim=1, descending=True).values[:, :2]
            torch.testing.assert_close(one.weights, best)


def test_times_that_lie_within_one_period_are_no_seasons():
    """Places in a sequence, given as times, tell nothing of when others had an item."""
    places = replace(ROWS, times=np.tile(np.arange(8), 5))
    assert memory_of(places, period=30).seasons is None
    assert memory_of(places, period=30).width == memory_of(places).width
    assert memory_of(ROWS, period=30).seasons is not None
