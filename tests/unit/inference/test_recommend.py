"""Whom recommendations are for, what they hold, and the files they are read from and written to."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from toy import dataset

from edt_cli.config import UsageError, UserError
from edt_cli.data.dataset import Sequences
from edt_cli.inference.recommend import known_users, new_users, recommend, users_as_tested, write_table
from edt_cli.models.batch import item_table
from edt_cli.training.data import TrainingData

MADE = dataset(
    {"u": ["a1", "b1", "a2", "a3"], "v": ["b1", "b2", "a1", "b3"], "w": ["a2", "a1", "b2"]},
    titles={"a1": "one", "a2": None, "a3": "three", "b1": "four", "b2": "five", "b3": "six"},
)


class ByNumber:
    """The higher an item's number, the better."""

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> ByNumber:
        return self

    def scores(self, rows: torch.Tensor, domain: int) -> torch.Tensor:
        items = MADE.domains.range(domain)
        return torch.arange(items.start, items.stop).float().repeat(len(rows), 1)


@pytest.fixture
def data() -> TrainingData:
    view = MADE.training_view()
    return TrainingData(MADE, view, view.prefixes, item_table(MADE.domains, view.prefixes), None)


def items(frame: pl.DataFrame, user: str, domain: str) -> list[str]:
    return frame.filter(user=user, domain=domain)["item"].to_list()


def test_what_was_had_and_what_is_out_of_stock_is_left_out(data):
    users = known_users(data, ["u", "w"])
    plain = recommend(data, ByNumber(), users, count=5, domains=[0, 1])
    assert items(plain, "u", "a") == [] and items(plain, "u", "b") == ["b3", "b2"]
    assert items(plain, "w", "a") == ["a3"] and items(plain, "w", "b") == ["b3", "b1"]
    without = recommend(data, ByNumber(), users, count=5, domains=[1], exclude=["b3", "not there"])
    assert items(without, "u", "b") == ["b2"] and items(without, "w", "b") == ["b1"]
    seen = recommend(data, ByNumber(), users, count=2, domains=[0], keep_seen=True)
    assert items(seen, "u", "a") == ["a3", "a2"]
    assert seen.filter(user="u")["rank"].to_list() == [1, 2] and seen.filter(user="u")["title"][0] == "three"


def test_the_held_out_item_is_a_candidate_as_in_the_test(data):
    """Of u, a3 is held out; the validation item a2 before it is known."""
    users = users_as_tested(data, ["u"])
    assert users.inputs.lengths.tolist() == [3] and list(users.names) == ["u"]
    assert items(recommend(data, ByNumber(), users, count=5, domains=[0, 1]), "u", "a") == ["a3"]
    with pytest.raises(UserError, match="nobody"):
        users_as_tested(data, ["nobody"])


def test_new_users_are_asked_by_their_ids(data):
    asked, unknown, cold = new_users(MADE, {"new": ["a1", "gone", "b2"], "cold": ["gone"], "other": ["b1"]})
    assert unknown == 2 and cold == ["cold"] and list(asked.names) == ["new", "cold", "other"]
    frame = recommend(data, ByNumber(), asked, count=9, domains=[0, 1])
    assert items(frame, "new", "a") == ["a3", "a2"] and items(frame, "other", "b") == ["b3", "b2"]
    with pytest.raises(UserError, match="no item of these histories"):
        new_users(MADE, {"x": ["gone"], "y": ["gone", "too"]})
    with pytest.raises(UserError, match="nobody"):
        known_users(data, ["nobody"])
    assert list(known_users(data, ["u", "w", "u"]).names) == ["u", "w"]


def test_a_user_of_whom_nothing_is_known_gets_what_is_popular(data):
    """In training b1 occurs twice, a1, a2 and b2 once, and the others not at all."""
    for histories in ({"new": ["gone"], "empty": []}, {"empty": []}):
        users = new_users(MADE, histories).users
        frame = recommend(data, ByNumber(), users, count=2, domains=[0, 1], exclude=["a2"])
        assert frame["source"].unique().to_list() == ["popular"]
        assert items(frame, "empty", "a") == ["a1", "a3"] and items(frame, "empty", "b") == ["b1", "b2"]
    mixed = known_users(data, ["nobody", "u"], allow_new=True)
    frame = recommend(data, ByNumber(), mixed, count=1, domains=[1])
    assert frame.select("user", "item", "source").rows() == [("u", "b3", "model"), ("nobody", "b1", "popular")]
    assert mixed.history.times is not None and len(mixed.history) == 2


def test_a_name_that_is_nearly_right_is_suggested():
    named = dataset({"A10L": ["a1", "b1", "a2"], "A10M": ["a1", "b1", "a2"], "B7": ["a1", "b1", "a2"]})
    with pytest.raises(UserError, match=r"no user 'A10' in .*; did you mean A10. or A10.\?"):
        named.user("A10")
    with pytest.raises(UserError, match="edt data stats"):
        named.user("someone")


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_table_is_written_by_its_ending(ending, tmp_path):
    frame, path = pl.DataFrame({"user": ["x"], "rank": [1]}), tmp_path / f"out.{ending}"
    write_table(frame, path)
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[ending]
    assert read(path).equals(frame)
    with pytest.raises(UsageError, match="ending"):
        write_table(frame, tmp_path / "out.xlsx")
