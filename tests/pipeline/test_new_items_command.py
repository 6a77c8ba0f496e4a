"""`--new-items`: what came after training is recommended, and what cannot be is said in one line."""

from __future__ import annotations

import json

import pytest
from test_data_cli import edt as edt  # the command in this process
from test_data_cli import error
from toy import dataset, prepared

pytestmark = pytest.mark.e2e

TITLES = {
    "a1": "Olive oil, extra virgin",
    "a2": "Green tea, loose leaves",
    "b1": "Cast iron skillet",
    "b2": "Tea kettle with whistle",
}
TEXTS = "item,domain,title\na-new,a,Green tea in bags\na1,a,known\nb-new,b,Skillet of cast iron\nb-none,b,\n"


def test_new_items_are_recommended_by_their_texts(edt, tmp_path):
    four = ["a1", "b1", "a2", "b2"]
    histories = {f"u{user}": [*four[user % 4 :], *four[: user % 4]] for user in range(6)}
    prepared(tmp_path / "ws", dataset(histories, TITLES))
    (tmp_path / "new.csv").write_text(TEXTS)
    (tmp_path / "h.csv").write_text("item\na2\nb-new\n")
    for model in ("content-knn", "popularity"):
        edt("train", "--data", "tiny", "--model", model, "--no-ui", "--yes", "--device", "cpu")
    recommend = ("recommend", "--history", "h.csv", "--run", "tiny-content-knn-s42", "--json")
    before = json.loads(edt(*recommend).stdout)["users"]["new user"]
    done = edt(*recommend, "--new-items", "new.csv")
    assert "2 items added by their texts, 1 without text left out, 1 in the catalogue already" in done.stderr
    assert "b-new is not" not in done.stderr
    shown = json.loads(done.stdout)["users"]["new user"]
    assert shown["a"][0]["item"] == "a-new" and shown["a"][0]["title"] == "Green tea in bags"
    assert [row["item"] for row in before["a"]] == ["a1"], "without it, what is left of the catalogue"
    assert shown["b"][0]["item"] == "b1", "the new skillet in the history counts"

    (tmp_path / "bare.csv").write_text("item,title\nx,Teapot\n")
    for files, model, code, says in (
        ("bare.csv", "content-knn", 1, "does not say of which domain its items are: name it as DOMAIN=bare.csv"),
        ("z=bare.csv", "content-knn", 1, "there is no domain 'z'; this dataset has a, b"),
        ("a=gone.csv", "content-knn", 1, "gone.csv"),
        ("a=bare.csv", "popularity", 1, "popularity reads no texts, so that a new item has no vector"),
    ):
        run = f"tiny-{model}-s42"
        assert says in error(edt("recommend", "-u", "u1", "--run", run, "--new-items", files, code=code))
