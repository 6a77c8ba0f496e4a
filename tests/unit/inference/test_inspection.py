"""One user as the augmenter and the profiler see them."""

from __future__ import annotations

import pytest
from toy import dataset

from edt_backends.store import ReplyCache
from edt_cli.config import UserError, load_settings
from edt_cli.inference.inspection import ONE_DOMAIN, describe_user, inspect_user, sent_about
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.layout import Workspace


def two_shops() -> dict[str, list[str]]:
    """Half of the users buy a1 to a4 and b1 to b4, half of the first domain alone."""
    mixed = {
        f"m{n}": [f"a{1 + n % 4}", f"b{1 + n % 4}", f"a{1 + (n + 1) % 4}", f"b{1 + (n + 1) % 4}"] for n in range(8)
    }
    return mixed | {f"o{n}": [f"a{1 + (n + step) % 4}" for step in range(4)] for n in range(8)}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    settings = load_settings("llm-edt-ce", flags={"augmentation": {"tau": -1.0, "clusters": 2}})
    return Pipeline(Workspace(tmp_path_factory.mktemp("inspected")), dataset(two_shops()), settings)


def test_a_user_of_one_domain_is_found_and_told(pipeline):
    found = inspect_user(pipeline, ONE_DOMAIN)
    assert found["user"].startswith("o") and found["r"] == 1.0 and found["counts"]["b"] == 0
    assert {one["domain"] for one in found["generated"]} == {"b"}
    assert found["profile"] and found["llm"].startswith("local")
    parts = [item["part"] for item in found["history"]]
    assert parts.count("train") == 2 and parts[-2:] == ["valid", "test"] and "inserted" in parts
    kept = sum(one["kept"] for one in found["generated"])
    assert parts.count("inserted") == kept > 0
    # Each is told why: the item that stands before it in the history, among others inserted there.
    for place, item in enumerate(found["history"]):
        if item["part"] == "inserted":
            before = [one for one in found["history"][:place] if one["part"] == "train"][-1]
            assert item["why"]["kept"] and item["why"]["title"] == item["title"]
            assert item["why"]["anchor"] == before["title"] and item["why"]["score_target"] >= item["why"]["tau"]


def test_a_history_is_told_as_it_happened_where_nothing_was_inserted(pipeline):
    user = pipeline.dataset.user("m0")
    made, profiles = pipeline.augmentation(), pipeline.profiles()
    found = describe_user(pipeline.dataset, made, profiles, user, "nobody")
    happened = [item["item"] for item in found["history"] if item["part"] != "inserted"]
    assert happened == two_shops()["m0"] and found["counts"] == {"a": 1, "b": 1} and found["r"] == 0.0


def test_an_unknown_user_is_an_error_before_anything_is_made(tmp_path):
    place = Workspace(tmp_path)
    fresh = Pipeline(place, dataset(two_shops()), load_settings("llm-edt-ce"))
    with pytest.raises(UserError, match="nobody"):
        inspect_user(fresh, "nobody")
    assert not place.artefacts.exists()
    assert sent_about(place, fresh.dataset, "m0") == {"user": "m0", "data": fresh.dataset.name, "sent": []}


def test_one_domain_is_a_user_for_prompts_too_one_about_whom_something_was_sent(tmp_path):
    place, data = Workspace(tmp_path), dataset(two_shops())
    assert sent_about(place, data, ONE_DOMAIN)["user"] == "o0"
    asked = {"prompt": "generate@1", "messages": [["user", "?"]], "max_tokens": 1, "temperature": 0.0}
    entry = {"backend": "b", "time": 1.0, "usage": {}, "reply": "!", "finish_reason": "stop"}
    asked |= {"seed": None, "schema": None}
    ReplyCache(place.cache).put({"key": {**entry, "asked": asked, "users": ["m1", "o3"]}})
    found = sent_about(place, data, ONE_DOMAIN)
    assert found["user"] == "o3" and [one["reply"] for one in found["sent"]] == ["!"]
    with pytest.raises(UserError, match="several domains"):
        sent_about(place, dataset({"u": ["a1", "b1", "a2", "b2"]}), ONE_DOMAIN)
