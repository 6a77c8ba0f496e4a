"""The released passes, the plain k-core, overlap, items of two domains: each against a slow, obvious version."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from edt_cli.data.filters import core, limit_overlap, one_domain_per_item, repeated_rows


def log(rows: int, users: int, items: int, seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": (users * draw.random(rows) ** 2).astype(np.int64),
            "item": (items * draw.random(rows) ** 2).astype(np.int64),
            "time": draw.integers(1, 50, rows),
            "domain": draw.integers(0, 2, rows).astype(np.uint8),
        }
    )


def slow_paper_core(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    while pairs:
        users, items = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        if min(users.values()) >= 5 and min(items.values()) >= 3:
            break
        pairs = [(user, item) for user, item in pairs if items[item] > 3 and users[user] > 5]
    return pairs


@pytest.mark.parametrize("seed", range(8))
def test_paper_core(seed):
    frame = log(600, 80, 100, seed)
    kept, _ = core(frame, "paper")
    assert kept.select("user", "item").rows() == slow_paper_core(frame.select("user", "item").rows())
    assert 0 < len(kept) < len(frame)


def test_a_pass_asks_for_more_than_the_stop():
    """Five a user and three an item pass the stop, so no pass begins. One user with four starts a pass, and that
    takes away those with exactly five, too: the released rule, odd as it is."""
    five = [(user, item) for user in range(3) for item in range(5)]
    frame = pl.DataFrame(five, schema=["user", "item"], orient="row")
    kept, passes = core(frame, "paper")
    assert (kept.rows(), passes) == (five, 0)
    more = pl.DataFrame([*five, *((9, item) for item in range(4))], schema=["user", "item"], orient="row")
    kept, passes = core(more, "paper")
    assert (kept.rows(), passes) == ([], 1)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_plain_core(seed, k):
    kept, _ = core(log(500, 60, 70, seed), k)
    users, items = Counter(kept["user"]), Counter(kept["item"])
    assert min(users.values()) >= k
    assert min(items.values()) >= k
    again, passes = core(kept, k)
    assert passes == 0
    assert again.equals(kept)


def test_core_can_leave_nothing():
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2]})
    assert core(frame, "paper")[0].is_empty()
    assert core(frame.clear(), "paper")[1] == 0


def shares(frame: pl.DataFrame) -> tuple[int, int]:
    domains = frame.group_by("user").agg(pl.col("domain").n_unique())["domain"]
    return int((domains > 1).sum()), len(domains)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_overlap_keeps_the_share_and_every_user(share):
    frame = log(4000, 100, 50, 1)
    kept = limit_overlap(frame, share, 42)
    before, users = shares(frame)
    assert shares(kept) == (min(before, round(share * users)), users)
    assert kept.equals(frame.join(kept.unique(), on=frame.columns, how="semi", maintain_order="left"))
    whole = frame.group_by("user", "domain").len()
    left = kept.group_by("user", "domain").len()
    assert left.join(whole, on=["user", "domain", "len"], how="anti").is_empty(), (
        "a domain is kept whole or not at all"
    )


def test_overlap_is_drawn_by_the_seed_and_not_by_the_order_of_lines():
    frame = log(3000, 100, 50, 2)
    once = limit_overlap(frame, 0.3, 7).sort(frame.columns)
    again = limit_overlap(frame.sample(fraction=1, shuffle=True, seed=3), 0.3, 7).sort(frame.columns)
    assert once.equals(again)
    assert not once.equals(limit_overlap(frame, 0.3, 8).sort(frame.columns))


def test_overlap_takes_either_domain():
    kept = limit_overlap(log(6000, 300, 50, 3), 0.0, 1).unique("user")
    assert 0.35 < kept["domain"].cast(pl.Float64).mean() < 0.65


def test_an_item_of_two_domains_stays_where_it_has_more():
    rows = [
        ("u1", 1, 10, 0),
        ("u2", 1, 11, 1),  # item 1: two lines in domain 1 against one
        ("u3", 1, 12, 1),
        ("u1", 2, 13, 1),  # item 2: one each, the first domain wins
        ("u2", 2, 14, 0),
        ("u1", 3, 15, 1),
    ]
    frame = pl.DataFrame(rows, schema=["user", "item", "time", "domain"], orient="row")
    kept, shared, fell = one_domain_per_item(frame.with_columns(pl.col("domain").cast(pl.UInt8)), 2)
    assert (shared, fell) == (2, 0)
    assert kept["domain"].to_list() == [1, 1, 1, 0, 0, 1]
    assert kept["user"].to_list() == frame["user"].to_list()


def test_the_same_review_in_two_files_counts_once():
    rows = [(5, 1, 10, 0), (6, 1, 11, 0), (5, 1, 10, 1), (7, 1, 12, 1), (5, 1, 10, 0)]
    frame = pl.DataFrame(rows, schema=["user", "item", "time", "domain"], orient="row")
    kept, shared, fell = one_domain_per_item(frame.with_columns(pl.col("domain").cast(pl.UInt8)), 2)
    assert (shared, fell) == (1, 1)
    # A line that its own file repeats stays, and a review that only the other file has moves.
    assert kept.select("user", "time", "domain").rows() == [(5, 10, 0), (6, 11, 0), (7, 12, 0), (5, 10, 0)]


def test_nothing_is_shared():
    frame = log(50, 10, 10, 1).with_columns(domain=pl.lit(0, pl.UInt8))
    kept, shared, fell = one_domain_per_item(frame, 3)
    assert kept is frame
    assert (shared, fell) == (0, 0)


@pytest.mark.parametrize("columns", [("user", "item", "time"), ("user", "item")])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("at_once", [2**24, 50])
def test_said_again(monkeypatch, at_once, seed, parts, columns):
    """All but the earliest of those that are alike, by part, time and place in the file."""
    monkeypatch.setattr("edt_cli.data.filters.ROWS_AT_ONCE", at_once)
    frame = log(400, 12, 12, seed)
    frame = frame.with_columns(part=np.random.default_rng(seed).integers(0, parts, len(frame)))
    earliest = {}
    for row, line in enumerate(frame.iter_rows(named=True)):
        place = (line["part"], line["time"], row)
        alike = tuple(line[column] for column in columns)
        earliest[alike] = min(place, earliest.get(alike, place))
    first = {row for _, _, row in earliest.values()}
    again = repeated_rows(frame, columns)
    assert np.flatnonzero(~again).tolist() == sorted(first)
    assert 0 < again.sum() < len(frame)
    assert not repeated_rows(frame.filter(pl.Series(~again)), columns).any()
