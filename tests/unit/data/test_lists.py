"""Histories and lists of items are read as datasets are, whatever wrote them."""

import json

import polars as pl
import pytest

from edt_cli.config import UserError
from edt_cli.data.columns import parse_columns
from edt_cli.data.lists import read_histories, read_items

HISTORIES = {
    "plain.csv": b"user,item\nx,a1\ny,7\nx,b2\n",
    "usual_names.csv": b"user_id,item_id\nx,a1\ny,7\nx,b2\n",
    "semicolons.csv": b"user;item\nx;a1\ny;7\nx;b2\n",
    "tabs.tsv": b"user\titem\nx\ta1\ny\t7\nx\tb2\n",
    "bom.csv": b"\xef\xbb\xbfuser,item\nx,a1\ny,7\nx,b2\n",
    "CAPITALS.CSV": b"USER,ITEM\nx,a1\ny,7\nx,b2\n",
    "spaces.csv": b"user,item\nx, a1\ny,7 \nx,b2\n",
    "floats.csv": b"user,item\nx,a1\ny,7.0\nx,b2\n",
    "lines.jsonl": b'{"user": "x", "item": "a1"}\n{"user": "y", "item": 7}\n{"user": "x", "item": "b2"}\n',
    "by_time.csv": b"user,item,time\nx,b2,30\ny,7,1\nx,a1,20\n",
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_read_from_what_a_dataset_is_read_from(name, tmp_path):
    (tmp_path / name).write_bytes(HISTORIES[name])
    assert dict(sorted(read_histories(tmp_path / name).items())) == {"x": ["a1", "b2"], "y": ["7"]}


def test_columns_are_named_and_a_file_of_items_is_one_user_s(tmp_path):
    (tmp_path / "h.csv").write_text("who,what\nx,a1\n")
    assert read_histories(tmp_path / "h.csv", parse_columns("user=who,item=what", header=True)) == {"x": ["a1"]}
    pl.DataFrame({"item": [1.0, 2.0]}).write_parquet(tmp_path / "one.parquet")
    assert read_histories(tmp_path / "one.parquet") == {"new user": ["1", "2"]}
    (tmp_path / "newcomer.csv").write_text("user,item,time\nx,a1,20\ny,,\n,,\n,,7\n")
    assert read_histories(tmp_path / "newcomer.csv") == {"x": ["a1"], "y": []}
    for name, text, says in (("no.csv", "user\nx\n", "known as item"), ("none.csv", "item\n\n", "has no item")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=says):
            read_histories(tmp_path / name)


ITEMS = {
    "lines.txt": b"a1\r\n7\r\n",
    "bom.txt": b"\xef\xbb\xbfa1\n\n 7 \n",
    "utf16.txt": "a1\n7\n".encode("utf-16"),
    "commas.txt": b"a1,7\n",
    "quoted.txt": b"'a1'\n\"7\"\n",
    "no_ending": b"a1\n7.0\n",
    "list.tsv": b"item\tname\na1\tx\n7\ty\n",
    "LIST.CSV": b"item,name\na1,x\n7,y\n",
    "ids.csv": b"asin;price\na1;2\n 7 ;3\n",
    "ids.json": json.dumps({"item": "a1"}).encode() + b"\n" + json.dumps({"item": 7.0}).encode(),
}


@pytest.mark.parametrize("name", ITEMS)
def test_items_to_leave_out_are_read_from_any_list(name, tmp_path):
    (tmp_path / name).write_bytes(ITEMS[name])
    assert read_items(tmp_path / name) == ["a1", "7"]


def test_a_list_without_an_id_is_no_list(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UserError, match="has no id of an item"):
        read_items(tmp_path / "empty.txt")
    with pytest.raises(UserError, match=r"cannot read .*gone\.txt"):
        read_items(tmp_path / "gone.txt")
