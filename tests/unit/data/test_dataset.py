"""Numbering, order, splits, and that training cannot reach what is held out."""

import numpy as np
import polars as pl
import pytest

from edt_cli.config import DataSettings, UserError
from edt_cli.data.assemble import assemble
from edt_cli.data.saved import FILES, load, save
from edt_cli.workspace.layout import Workspace

PLAIN = DataSettings(window=None, k_core=None, ties="file")


def frames(rows, domain_of):
    """rows: (user, item, time)."""
    interactions = pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}, orient="row")
    items = pl.DataFrame({"item": list(domain_of), "domain": list(domain_of.values())})
    return interactions, items


def named(dataset, user):
    return [dataset.catalogue["id"][int(item) - 1] for item in dataset.sequences.of(dataset.user(user))]


def tiny(settings=PLAIN, domains=("a", "b")):
    rows = [
        ("u3", "y", 5), ("u3", "x", 1), ("u3", "z", 3), ("u3", "w", 9),
        ("u2", "x", 2), ("u2", "y", 1),
        ("u1", "w", 4),
        ("u4", "x", 1), ("u4", "z", 2), ("u4", "y", 3),
    ]  # fmt: skip
    return assemble(*frames(rows, {"w": 0, "x": 1, "y": 0, "z": 1}), list(domains), settings)


def test_items_are_numbered_by_domain_and_id():
    dataset = tiny()
    assert dataset.catalogue["id"].to_list() == ["w", "y", "x", "z"]
    assert dataset.domains.starts.tolist() == [1, 3, 5]
    assert dataset.domains.of(np.array([1, 2, 3, 4])).tolist() == [0, 0, 1, 1]
    assert dataset.item_number("x") == 3
    assert dataset.item_number("nothing") is None


def test_users_by_name_and_sequences_by_time():
    dataset = tiny()
    assert list(dataset.user_ids) == ["u1", "u2", "u3", "u4"]
    assert named(dataset, "u3") == ["x", "z", "y", "w"]
    assert named(dataset, "u2") == ["y", "x"]


def test_leave_one_out_with_four_three_two_and_one():
    dataset = tiny()
    assert dataset.train_lengths.tolist() == [1, 2, 2, 1]
    assert dataset.target_positions["valid"].tolist() == [-1, -1, 2, 1]
    assert dataset.target_positions["test"].tolist() == [-1, -1, 3, 2]
    test = dataset.targets("test")
    assert test.users.tolist() == [2, 3]
    assert [dataset.catalogue["id"][int(item) - 1] for item in test.items] == ["w", "y"]
    assert test.domains.tolist() == [0, 0]


def test_the_training_view_holds_no_held_out_interaction():
    dataset = tiny()
    view = dataset.training_view()
    assert [view.prefixes.of(user).tolist() for user in range(4)] == [[1], [2, 3], [3, 4], [3]]
    assert view.popularity().tolist() == [0, 1, 1, 3, 1]
    assert view.training_items.tolist() == [1, 2, 3, 4]
    # No array of the view shares memory with the full sequences: nothing can be reached through a base.
    assert not np.shares_memory(view.prefixes.items, dataset.sequences.items)
    owner = view.prefixes.items
    while owner.base is not None:
        owner = owner.base
    assert owner.size == dataset.train_lengths.sum()


def test_the_final_view_has_everything_under_another_key():
    dataset = tiny()
    view = dataset.training_view("all")
    assert len(view.prefixes.items) == len(dataset.sequences.items)
    assert view.key != dataset.training_view().key


def test_the_refit_view_holds_out_what_the_test_set_asks_for_and_nothing_else():
    dataset = tiny()
    view, targets = dataset.training_view("train+valid"), dataset.targets("test")
    for user in range(4):
        length = targets.positions[targets.users == user]
        expected = dataset.sequences.of(user)[: length[0] if len(length) else None]
        assert view.prefixes.of(user).tolist() == expected.tolist()
    assert len({dataset.training_view(part).key for part in ("train", "train+valid", "all")}) == 3
    assert not np.shares_memory(view.prefixes.items, dataset.sequences.items)


def test_global_time():
    rows = [(f"u{user}", f"i{(user + step) % 7}", 10 * step + user) for user in range(10) for step in range(10)]
    rows += [("late", "i1", 97), ("late", "i2", 98), ("early", "i1", 1), ("early", "i2", 2)]
    dataset = assemble(
        *frames(rows, {f"i{n}": n % 2 for n in range(7)}),
        ["a", "b"],
        PLAIN.model_copy(update={"split": "global-time"}),
    )
    first, second = np.quantile([time for _, _, time in rows], [0.8, 0.9], method="nearest")
    for user, name in enumerate(dataset.user_ids):
        span = slice(dataset.sequences.offsets[user], dataset.sequences.offsets[user + 1])
        times = dataset.times[span]
        assert dataset.train_lengths[user] == (times < first).sum()
        for split, inside in (("valid", (times >= first) & (times < second)), ("test", times >= second)):
            last = dataset.target_positions[split][user]
            assert last == (np.flatnonzero(inside)[-1] if inside.any() else -1), name
    # A user who came after both boundaries has a target, but a first interaction alone is none.
    late = dataset.user("late")
    assert dataset.train_lengths[late] == 0
    assert late in dataset.targets("test").users
    early = dataset.user("early")
    assert early not in dataset.targets("test").users
    assert dataset.train_lengths[early] == 2
    trained = np.concatenate(
        [dataset.times[o : o + n] for o, n in zip(dataset.sequences.offsets, dataset.train_lengths, strict=False)]
    )
    assert trained.max() < first


def test_given_split_keeps_its_parts_whatever_the_times():
    rows = [("u", "x", 9), ("u", "y", 1), ("u", "z", 2), ("u", "w", 1), ("v", "x", 1), ("v", "y", 1)]
    interactions, items = frames(rows, {"w": 0, "x": 1, "y": 0, "z": 1})
    interactions = interactions.with_columns(part=pl.Series([0, 0, 1, 2, 0, 2]))
    dataset = assemble(interactions, items, ["a", "b"], PLAIN.model_copy(update={"split": "given"}))
    assert named(dataset, "u") == ["y", "x", "z", "w"]
    assert dataset.train_lengths.tolist() == [2, 1]
    assert dataset.target_positions["valid"].tolist() == [2, -1]
    assert dataset.target_positions["test"].tolist() == [3, 1]


def test_ties_in_file_order_and_shuffled():
    rows = [("u", f"i{n:02d}", 7) for n in range(30)] + [("u", "last", 8)]
    domain_of = {item: 0 for _, item, _ in rows}
    kept = assemble(*frames(rows, domain_of), ["a"], PLAIN)
    assert named(kept, "u") == [item for _, item, _ in rows]
    shuffled = [
        named(assemble(*frames(rows, domain_of), ["a"], DataSettings(window=None, k_core=None, seed=seed)), "u")
        for seed in (1, 1, 2)
    ]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    assert sorted(shuffled[0]) == sorted(named(kept, "u"))
    assert all(order[-1] == "last" for order in shuffled), "only equal times are shuffled"


def test_three_domains_an_empty_one_and_one_item():
    rows = [("u", "x", 1), ("u", "y", 2), ("v", "x", 1)]
    dataset = assemble(*frames(rows, {"x": 0, "y": 2}), ["a", "nothing", "c"], PLAIN)
    assert dataset.domains.starts.tolist() == [1, 2, 2, 3]
    assert dataset.domains.of(np.array([1, 2])).tolist() == [0, 2]
    assert dataset.sequences.domain_counts(dataset.domains).tolist() == [[1, 0, 1], [1, 0, 0]]
    assert list(dataset.domains.range(1)) == []
    single = assemble(*frames([("u", "x", 1)] * 4, {"x": 0}), ["a", "b"], PLAIN)
    assert single.sequences.of(0).tolist() == [1, 1, 1, 1]
    assert single.training_view().prefixes.of(0).tolist() == [1, 1]


def test_one_domain_users():
    dataset = tiny()
    counts = dataset.sequences.domain_counts(dataset.domains)
    assert counts[dataset.user("u1")].tolist() == [1, 0]


def test_unknown_items_are_left_out_and_a_user_with_nothing_else_too():
    rows = [("u", "x", 1), ("u", "gone", 2), ("v", "gone", 1)]
    dataset = assemble(*frames(rows, {"x": 0}), ["a", "b"], PLAIN)
    assert list(dataset.user_ids) == ["u"]
    assert named(dataset, "u") == ["x"]


def test_strings_and_categories_make_the_same_dataset():
    rows = [(f"u{n % 5}", f"i{n * 7 % 11}", n // 3) for n in range(60)]
    interactions, items = frames(rows, {f"i{n}": n % 2 for n in range(11)})
    a = assemble(interactions, items, ["a", "b"], DataSettings(window=None, k_core=None))
    b = assemble(
        interactions.with_columns(pl.col("user", "item").cast(pl.Categorical)),
        items,
        ["a", "b"],
        DataSettings(window=None, k_core=None),
    )
    assert a.sequences.items.tolist() == b.sequences.items.tolist()
    assert a.user_ids == b.user_ids


@pytest.mark.parametrize("rows", [[], [("u", "gone", 1)]])
def test_nothing_at_all_is_one_clear_line(rows):
    interactions, items = frames(rows, {"x": 0})
    with pytest.raises(UserError, match="no usable interaction"):
        assemble(interactions, items, ["a", "b"], PLAIN)


@pytest.mark.parametrize("at_once", [1, 40, 150])
def test_users_are_ordered_some_at_a_time_as_all_at_once(monkeypatch, at_once):
    draw = np.random.default_rng(3)
    names = [f"u{number}" for number in (30 * draw.random(400) ** 2).astype(int)]
    rows = list(
        zip(names, (f"i{n}" for n in draw.integers(0, 20, 400)), draw.integers(1, 9, 400).tolist(), strict=True)
    )
    domain_of = {f"i{number}": number % 2 for number in range(18)}  # two items are of no domain
    settings = DataSettings(window=None, k_core=None, seed=4)
    whole = assemble(*frames(rows, domain_of), ["a", "b"], settings)
    monkeypatch.setattr("edt_cli.data.assemble.ROWS_AT_ONCE", at_once)
    parts = assemble(*frames(rows, domain_of), ["a", "b"], settings)
    for name in ("offsets", "items", "times"):
        assert getattr(parts.sequences, name).tolist() == getattr(whole.sequences, name).tolist()
    assert parts.user_ids == whole.user_ids and (parts.train_lengths == whole.train_lengths).all()


def test_order_with_times_too_far_apart_for_one_number():
    far = 2**61
    rows = [("u", "x", far), ("u", "y", -5), ("v", "y", far), ("v", "x", 3), ("u", "z", 0)]
    dataset = assemble(*frames(rows, {"x": 0, "y": 0, "z": 0}), ["a"], PLAIN)
    assert named(dataset, "u") == ["y", "z", "x"]
    assert named(dataset, "v") == ["x", "y"]
    assert dataset.times.tolist() == [-5, 0, far, 3, far]


def saved(dataset, root):
    artefact = Workspace(root).dataset("tiny")
    with artefact.create() as (folder, manifest):
        manifest |= save(dataset, folder) | {"data_key": "k"}
    return artefact


def test_what_is_saved_is_what_is_loaded(tmp_path):
    dataset = tiny()
    again = load(saved(dataset, tmp_path))
    assert (again.name, again.key, again.settings) == ("tiny", "k", dataset.settings)
    assert list(again.user_ids) == list(dataset.user_ids)
    for one, other in (
        (again.sequences.items, dataset.sequences.items),
        (again.sequences.offsets, dataset.sequences.offsets),
        (again.times, dataset.times),
        (again.train_lengths, dataset.train_lengths),
        (again.target_positions["test"], dataset.target_positions["test"]),
        (again.domains.starts, dataset.domains.starts),
    ):
        assert one.tolist() == other.tolist()
    assert again.catalogue.equals(dataset.catalogue)


def test_the_content_is_hashed_and_not_the_file(tmp_path):
    other_split = PLAIN.model_copy(update={"split": "global-time"})
    one, two, other = (save(dataset, tmp_path)["content"] for dataset in (tiny(), tiny(), tiny(other_split)))
    assert one == two
    assert one["users.parquet"] != other["users.parquet"]
    assert one["items.parquet"] == other["items.parquet"]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_dataset_is_one_clear_line(tmp_path, name):
    artefact = saved(tiny(), tmp_path)
    (artefact.path / name).write_bytes(b"no parquet")
    with pytest.raises(UserError, match="damaged"):
        load(artefact)


def test_a_dataset_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match="edt data prepare cloth-sport"):
        load(Workspace(tmp_path).dataset("cloth-sport"))


@pytest.mark.parametrize("split", ["leave-one-out", "global-time"])
def test_repeats_are_targets_that_the_user_had_before(split):
    draw = np.random.default_rng(2)
    rows = [(f"u{n % 30:02d}", "wxyzv"[draw.integers(5)], int(draw.integers(1, 100))) for n in range(150)]
    made = assemble(*frames(rows, dict.fromkeys("wxyzv", 0)), ["a"], PLAIN.model_copy(update={"split": split}))
    both = []
    for name in ("valid", "test"):
        targets, found = made.targets(name), made.repeats(name)
        before = [made.sequences.of(u)[:p].tolist() for u, p in zip(targets.users, targets.positions, strict=True)]
        assert found.tolist() == [item in had for item, had in zip(targets.items, before, strict=True)]
        assert 0 < found.sum() < len(found)
        both += found.tolist()
    assert made.repeat_share == pytest.approx(np.mean(both))


def test_seen_items_stay_candidates_from_one_repeat_in_a_hundred_on():
    """Of 100 users and 200 targets two are 1%, and three are more."""
    for repeats, kept in ((2, False), (3, True)):
        histories = ["wxyw" if n < repeats else "wxyz" for n in range(100)]
        rows = [(f"u{n}", item, at) for n, items in enumerate(histories) for at, item in enumerate(items)]
        made = assemble(*frames(rows, dict.fromkeys("wxyz", 0)), ["a"], PLAIN)
        assert made.keeps_seen() is kept
        assert [made.keeps_seen(asked) for asked in (True, False)] == [True, False]
    assert assemble(*frames([("u", "w", 1)], {"w": 0}), ["a"], PLAIN).keeps_seen() is False


def test_a_mistyped_dataset_is_told_the_one_that_is_meant(tmp_path):
    workspace = Workspace(tmp_path)
    with workspace.dataset("food-kitchen").create(data_key="k"):
        pass
    with pytest.raises(UserError, match=r"did you mean food-kitchen\? Else make it with: edt data prepare"):
        load(workspace.dataset("food-kichen"))
    with pytest.raises(UserError, match=r"in this workspace; make it with: edt data prepare zzz"):
        load(workspace.dataset("zzz"))
