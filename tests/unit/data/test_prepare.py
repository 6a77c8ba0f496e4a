"""Raw files to a dataset, and what the manifest says became of every line."""

import gzip
import json

import polars as pl
import pytest

from edt_cli.config import DataSettings, UserError
from edt_cli.data.amazon import PAIRS, amazon_pair
from edt_cli.data.options import SourceOptions, data_settings, find_sources
from edt_cli.data.prepare import NO_FILTER, prepare, prepare_demo
from edt_cli.data.saved import load
from edt_cli.data.stats import statistics
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

FILE_ORDER = DataSettings(window=None, k_core=None, ties="file")


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "ws").mkdir()
    return Workspace(tmp_path / "ws")


def amazon(folder, food, kitchen, meta=None, name="{}.json.gz"):
    for (domain, category), rows in zip(PAIRS["food-kitchen"], (food, kitchen), strict=True):
        lines = [
            row
            if isinstance(row, str)
            else json.dumps(dict(zip(("reviewerID", "asin", "unixReviewTime"), row, strict=True)))
            for row in rows
        ]
        (folder / name.format(category)).write_bytes(gzip.compress("\n".join(lines).encode()))
        if meta:
            texts = [json.dumps(text) for text in meta[domain]]
            (folder / f"meta_{category}.json.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    return amazon_pair("food-kitchen", folder)


def sequences(dataset):
    ids = dataset.catalogue["id"].to_list()
    return {
        name: [ids[item - 1] for item in dataset.sequences.of(user)] for user, name in enumerate(dataset.user_ids)
    }


def made(workspace, sources, settings=FILE_ORDER, name="x"):
    artefact, _ = prepare(workspace, name, sources, settings, Events())
    return load(artefact), artefact.manifest()


FOOD = [("u1", "f2", 5), ("u1", "f1", 5), ("u2", "f1", 7), ("u2", "f1", 7), "cut {", ("u3", "f3", 0)]
KITCHEN = [("u1", "k1", 5), ("u1", "k2", 1), ("u2", "k1", 3), ("u4", "k2", 9)]
META = {
    "food": [{"asin": "f1", "title": "A &amp; B"}, {"asin": "f1", "title": "again"}, {"asin": "nobody"}],
    "kitchen": [{"asin": "k1", "title": "Pan"}, {"asin": "f2", "title": "of the wrong file"}],
}


def test_the_whole_way(tmp_path, workspace):
    dataset, manifest = made(workspace, amazon(tmp_path, FOOD, KITCHEN, META))
    # Within one time: food before kitchen, then the line.
    assert sequences(dataset) == {"u1": ["k2", "f2", "f1", "k1"], "u2": ["k1", "f1"], "u4": ["k2"]}
    assert dataset.domains.names == ("food", "kitchen")
    assert dict(dataset.catalogue.select("id", "title").iter_rows()) == {
        "f1": "A & B", "f2": "of the wrong file", "k1": "Pan", "k2": None,
    }  # fmt: skip
    assert manifest["users"] == 3
    assert manifest["items"] == {"food": 2, "kitchen": 2}
    assert manifest["interactions"] == 7
    assert (manifest["synthetic"], manifest["split"]) == (False, "leave-one-out")
    assert [file["file"] for file in manifest["source"]] == [
        "Grocery_and_Gourmet_Food.json.gz", "Home_and_Kitchen.json.gz",
        "meta_Grocery_and_Gourmet_Food.json.gz", "meta_Home_and_Kitchen.json.gz",
    ]  # fmt: skip
    assert all(str(tmp_path) not in json.dumps(manifest[key]) for key in manifest), "no private path is kept"
    tally = manifest["tally"]
    assert tally["files"][0] == {
        "what": "interactions", "file": "Grocery_and_Gourmet_Food.json.gz", "domain": "food",
        "lines": 6, "usable": 4, "cut off or no record": 1, "time zero or negative": 1,
    }  # fmt: skip
    assert tally["files"][2]["repeated item"] == 1
    assert [step["left_out"] for step in tally["steps"]] == [1]
    assert "duplicates" in tally["steps"][0]["what"]
    assert [path.name for path in workspace.root.iterdir()] == ["data"], "no scratch is left"


TWICE = [("u1", "f1", 5), ("u1", "f2", 6), ("u1", "f1", 7), ("u1", "f1", 5), ("u2", "f1", 9)]


@pytest.mark.parametrize(
    ("repeats", "kept", "left_out", "counted"),
    [
        ("drop-duplicates", ["f1", "f2", "f1"], [1], {}),
        ("keep", ["f1", "f1", "f2", "f1"], [], {"duplicates (kept)": 1}),
        ("drop", ["f1", "f2"], [1, 1], {}),
    ],
)
def test_duplicates_and_repeats(tmp_path, workspace, repeats, kept, left_out, counted):
    settings = data_settings("mine", SourceOptions(), repeats=repeats)
    dataset, manifest = made(workspace, amazon(tmp_path, TWICE, [("u2", "k1", 1)]), settings)
    assert sequences(dataset) == {"u1": kept, "u2": ["k1", "f1"]}
    tally = manifest["tally"]
    assert [step["left_out"] for step in tally["steps"]] == left_out
    assert {name: count for name, count in tally.items() if name not in ("files", "steps")} == counted
    assert statistics(dataset, manifest)["settings"]["repeats"] == repeats


def test_a_duplicate_does_not_bring_an_item_into_the_core(tmp_path, workspace):
    """f1 has two interactions and one of them twice: of three that it would need."""
    food = [("u1", "f1", 1), ("u1", "f1", 1), ("u2", "f1", 2), *((f"u{user}", "f2", 3) for user in range(3))]
    settings = DataSettings(window=None, k_core=3, ties="file")
    kitchen = [(f"u{user}", f"k{item}", 9) for user in range(3) for item in range(3)]
    dataset, _ = made(workspace, amazon(tmp_path, food, kitchen), settings)
    assert dataset.item_number("f1") is None
    dataset, _ = made(workspace, amazon(tmp_path, food, kitchen), settings.model_copy(update={"repeats": "keep"}))
    assert dataset.item_number("f1") is not None


def test_data_without_repeats_has_one_key_whatever_was_to_become_of_them(tmp_path, workspace):
    keys = set()
    for repeats in ("drop-duplicates", "keep", "drop"):
        settings = FILE_ORDER.model_copy(update={"repeats": repeats})
        keys.add(made(workspace, amazon(tmp_path, TWICE[:2], KITCHEN), settings)[1]["data_key"])
    assert len(keys) == 1


def test_a_dataset_of_before_there_was_a_choice_has_its_duplicates(tmp_path, workspace):
    made(workspace, amazon(tmp_path, FOOD, KITCHEN))
    path = workspace.dataset("x").path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["settings"]["repeats"]
    path.write_text(json.dumps(manifest))
    assert load(workspace.dataset("x")).settings.repeats == "keep"


def test_doing_it_again_does_nothing_and_says_so(tmp_path, workspace):
    sources = amazon(tmp_path, FOOD, KITCHEN)
    records = []
    events = Events(listeners=(records.append,))
    artefact, first = prepare(workspace, "x", sources, FILE_ORDER, events)
    before = artefact.manifest()
    _, second = prepare(workspace, "x", sources, FILE_ORDER, events)
    assert (first, second) == (True, False)
    assert "nothing to do" in records[-1]["message"]
    assert artefact.manifest() == before
    _, third = prepare(workspace, "x", sources, NO_FILTER, events)
    assert third
    assert any("will be replaced" in record.get("message", "") for record in records)
    assert artefact.manifest()["data_key"] != before["data_key"]
    (tmp_path / "Home_and_Kitchen.json").unlink(missing_ok=True)
    _, changed = prepare(workspace, "x", amazon(tmp_path, FOOD, KITCHEN[:-1]), NO_FILTER, events)
    assert changed, "the files' content counts, not their names"


def test_the_same_data_has_the_same_key_from_any_format(tmp_path, workspace):
    _, from_json = made(workspace, amazon(tmp_path, FOOD, KITCHEN), name="json")
    for name, rows in (("food", FOOD[:4]), ("kitchen", KITCHEN)):
        pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(tmp_path / f"{name}.csv")
    asked = SourceOptions(domain_files=[str(tmp_path / "food.csv"), str(tmp_path / "kitchen.csv")])
    _, from_csv = made(workspace, find_sources("mine", asked, workspace, Events()), name="csv")
    assert from_csv["data_key"] == from_json["data_key"]
    assert from_csv["recipe"] != from_json["recipe"]


def test_the_presets_window_on_older_data_is_a_clear_error(tmp_path, workspace):
    sources = amazon(tmp_path, FOOD, KITCHEN)
    with pytest.raises(UserError) as caught:
        prepare(workspace, "x", sources, DataSettings(), Events())
    assert "--window none --k-core none" in str(caught.value)
    assert "1970-01-01" in str(caught.value)
    assert not workspace.dataset("x").complete
    with pytest.raises(UserError, match="k-core passes leave nothing"):
        prepare(workspace, "x", sources, DataSettings(window=None), Events())


def test_window_and_core_together(tmp_path, workspace):
    start, end = 100, 1000
    food = [(f"u{user}", f"f{item}", 200 + item) for user in range(8) for item in range(5)]
    kitchen = [(f"u{user}", f"k{item}", 300 + item) for user in range(8) for item in range(3)]
    edge = [("u0", "f0", start), ("u0", "f0", end), ("u1", "f1", 5000), ("lonely", "f0", 500)]
    settings = DataSettings(window=(start, end), k_core="paper")
    dataset, manifest = made(workspace, amazon(tmp_path, [*food, *edge], kitchen), settings)
    assert len(dataset.sequences.items) == len(food) + len(kitchen)
    assert manifest["tally"]["steps"] == [
        {"left_out": 3, "what": "outside the window"},
        {"left_out": 1, "what": "outside the k-core"},
    ]
    assert manifest["tally"]["k-core passes"] == 1


def test_an_item_of_both_domains_is_counted(tmp_path, workspace):
    both = [("u1", "s", 1), ("u2", "s", 2), ("u1", "f1", 3)]
    dataset, manifest = made(workspace, amazon(tmp_path, both, [("u1", "s", 1), ("u3", "s", 4), ("u1", "k1", 5)]))
    assert manifest["tally"]["items in several domains"] == 1
    assert manifest["tally"]["steps"] == [{"left_out": 1, "what": "listed again by another domain's file"}]
    assert dataset.domains.of(pl.Series([dataset.item_number("s")]).to_numpy()).tolist() == [0]
    assert sequences(dataset)["u3"] == ["s"]


def test_what_is_odd_is_said(tmp_path, workspace):
    """Ids from 1 on in each file of one's own, and no metadata: no error, but seldom meant."""
    records = []
    rows = [(f"u{user}", str(item), 10 + user) for user in range(3) for item in range(1, 6)]
    prepare(workspace, "x", amazon(tmp_path, rows, rows[:7]), FILE_ORDER, Events(listeners=(records.append,)))
    said = [record["message"] for record in records if record["event"] == "remark"]
    assert said == [
        "no item of food has text: its metadata is missing or has other ids",
        "kitchen is left without any item",
        "5 of 5 items have an id that several domains use; if these are different items, "
        "give them different ids (food-17, kitchen-17)",
        "no user is in several domains: do all files write the ids of users alike?",
    ]


def told(tmp_path, workspace, files, **options):
    """The dataset of files in other people's forms, and what was said while it was prepared."""
    events = Events(listeners=((records := []).append,))
    asked = SourceOptions(domain_files=[str(tmp_path / name) for name in files], **options)
    artefact, _ = prepare(workspace, "m", find_sources("m", asked, workspace, events), NO_FILTER, events)
    return load(artefact), [record["message"] for record in records if record["event"] == "remark"]


def test_ids_are_one_whether_they_are_written_as_whole_numbers_or_as_floats(tmp_path, workspace):
    """pandas writes 100.0 as soon as one id of a column is missing."""
    (tmp_path / "a.csv").write_text("user,item,time\n100,1.0,10\n101,2.0,11\n")
    pl.DataFrame({"user": [100.0, 101.0], "item": [7.0, 8.0], "time": [20, 21]}).write_parquet(
        tmp_path / "b.parquet"
    )
    dataset, said = told(tmp_path, workspace, ["a.csv", "b.parquet"])
    assert sequences(dataset) == {"100": ["1", "7"], "101": ["2", "8"]}
    assert not any("several domains" in message for message in said)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("u,x,1500000000", "u,y,1500000300", None),
        ("u,x,1500000000", "u,y,20170714", "the times of b.csv are read as dates such as 20170714"),
        ("u,x,1500000000", "u,y,1600000000", "do not overlap"),
        ("u,x,400000000", "u,y,400000000", "times before 1990"),
        ("u,x,9500000000", "u,y,9500000000", "times in the future"),
        ("u,x,1", "u,y,1", None),  # places in a sequence
    ],
)
def test_times_that_look_wrong_are_told(first, second, says, tmp_path, workspace):
    (tmp_path / "a.csv").write_text(f"user,item,time\n{first}\n")
    (tmp_path / "b.csv").write_text(f"user,item,time\n{second}\n")
    _, said = told(tmp_path, workspace, ["a.csv", "b.csv"])
    if says is None:
        assert not [message for message in said if "times" in message and "overlap" not in message]
    else:
        assert any(says in message for message in said)


REVIEWS = [
    {
        "user_id": f"u{n % 3}",
        "asin": f"V{n}",
        "parent_asin": f"P{n % 2}",
        "timestamp": 1_600_000_000_000 + n * 10**6,
    }
    for n in range(8)
]


@pytest.mark.parametrize("key", ["parent_asin", "asin"])
def test_items_have_the_id_that_their_metadata_has(key, tmp_path, workspace):
    """Reviews of Amazon's 2023 release have the id of a variant and of its product, its metadata the latter."""
    for name in ("a", "b"):
        rows = [
            json.dumps(row | {"asin": name + row["asin"], "parent_asin": name + row["parent_asin"]})
            for row in REVIEWS
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
        ids = {name + row[key] for row in REVIEWS}
        goods = [
            json.dumps({key: item, "title": f"The {item}", "categories": ["Home", "Tea"]}) for item in sorted(ids)
        ]
        (tmp_path / f"meta_{name}.jsonl").write_text("\n".join(goods))
    items = [f"{name}={tmp_path}/meta_{name}.jsonl" for name in ("a", "b")]
    dataset, _ = told(tmp_path, workspace, ["a.jsonl", "b.jsonl"], items=items)
    assert set(dataset.catalogue["id"]) == {name + row[key] for name in ("a", "b") for row in REVIEWS}
    assert dataset.catalogue["title"].null_count() == 0
    assert dataset.times.max() == 1_600_007_000


def test_metadata_of_other_items_is_an_error_and_of_few_a_warning(tmp_path, workspace):
    for name in ("a", "b"):
        rows = [f"u,{name}{n},{1_500_000_000 + n}" for n in range(5)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["user,item,time", *rows]))
    (tmp_path / "few.csv").write_text("item,title\na0,A\n")
    (tmp_path / "other.csv").write_text("item,title\nz,Z\n")
    _, said = told(tmp_path, workspace, ["a.csv", "b.csv"], items=[f"a={tmp_path / 'few.csv'}"])
    assert "only 1 of 5 items of a are in few.csv; not a1, a2, a3" in said
    with pytest.raises(UserError, match=r"no item of a is in other\.csv, such as a0, a1, a2: .*--item-columns"):
        told(tmp_path, workspace, ["a.csv", "b.csv"], items=[f"a={tmp_path / 'other.csv'}"])


def test_words_for_a_text_that_is_not_there_are_no_text(tmp_path, workspace):
    for name in ("a", "b"):
        rows = [f"u,{name}{n},{1_500_000_000 + n}" for n in range(4)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["user,item,time", *rows]))
    goods = {
        "item": ["a0", "a1", "a2", "a3"],
        "title": ["nan", "None", "A Pan of None", " N/A "],
        "description": ["[]", "['big', 'red']", "[not a list", "<NA>"],
    }
    pl.DataFrame(goods).write_csv(tmp_path / "goods.csv")
    lists = {"item": ["b0", "b1"], "title": ["B", "C"], "category": [["Home", "Tea"], []]}
    pl.DataFrame(lists).write_parquet(tmp_path / "lists.parquet")
    items = [f"a={tmp_path / 'goods.csv'}", f"b={tmp_path / 'lists.parquet'}"]
    dataset, _ = told(tmp_path, workspace, ["a.csv", "b.csv"], items=items)
    texts = {row["id"]: row for row in dataset.catalogue.iter_rows(named=True)}
    assert [texts[f"a{n}"]["title"] for n in range(4)] == [None, None, "A Pan of None", None]
    assert [texts[f"a{n}"]["description"] for n in range(4)] == [None, "big, red", "[not a list", None]
    assert (texts["b0"]["category"], texts["b1"]["category"]) == ("Home, Tea", None)
    empty = "empty text, such as nan or None"
    tally = workspace.dataset("m").manifest()["tally"]["files"]
    assert [file.get(empty) for file in tally if file["what"] == "items"] == [5, None]


def test_overlap(tmp_path, workspace):
    food = [(f"u{user}", f"f{step}", step + 1) for user in range(40) for step in range(4)]
    kitchen = [(f"u{user}", f"k{step}", step + 10) for user in range(40) for step in range(4)]
    settings = FILE_ORDER.model_copy(update={"overlap": 0.25})
    dataset, _ = made(workspace, amazon(tmp_path, food, kitchen), settings)
    counts = dataset.sequences.domain_counts(dataset.domains)
    assert len(dataset.sequences) == 40
    assert ((counts > 0).sum(1) == 2).sum() == 10
    assert set(map(tuple, counts.tolist())) == {(4, 4), (4, 0), (0, 4)}


def test_three_files_and_their_texts(tmp_path, workspace):
    for name, prefix in (("food", "f"), ("pans", "p"), ("toys", "t")):
        rows = [(f"u{user}", f"{prefix}{user % 2}", 10 + user) for user in range(4)]
        pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_parquet(
            tmp_path / f"{name}.parquet"
        )
    goods = {"item": ["f0", "p0", "t0"], "title": ["F", "P", "T"], "domain": ["food", "pans", "toys"]}
    pl.DataFrame(goods).write_csv(tmp_path / "goods.csv")
    files = [f"{name}={tmp_path / name}.parquet" for name in ("food", "pans", "toys")]
    asked = SourceOptions(domain_files=files, items=[str(tmp_path / "goods.csv")])
    dataset, manifest = made(workspace, find_sources("mine", asked, workspace, Events()))
    assert manifest["items"] == {"food": 2, "pans": 2, "toys": 2}
    assert dataset.catalogue["title"].to_list() == ["F", None, "P", None, "T", None]


def test_item_text_in_the_interactions_themselves(tmp_path, workspace):
    """A title beside each purchase will do; an items' file goes first; a column `name` may be the user's."""
    rows = [("u", "x", 1, "A Pan", "Ann"), ("v", "x", 2, None, "Bob"), ("v", "y", 3, "A Pot", "Bob")]
    columns = ["user", "item", "time", "title", "name"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(tmp_path / "shop.csv")
    named = pl.DataFrame(rows, schema=columns, orient="row").drop("title").with_columns(item="o" + pl.col("item"))
    named.write_parquet(tmp_path / "outlet.parquet")
    pl.DataFrame({"item": ["y"], "name": ["The Pot"]}).write_csv(tmp_path / "goods.csv")
    files = [str(tmp_path / "shop.csv"), str(tmp_path / "outlet.parquet")]
    asked = SourceOptions(domain_files=files, items=[f"shop={tmp_path / 'goods.csv'}"])
    dataset, manifest = made(workspace, find_sources("mine", asked, workspace, Events()))
    titles = dict(dataset.catalogue.select("id", "title").iter_rows())
    assert titles == {"x": "A Pan", "y": "The Pot", "ox": None, "oy": None}
    assert [file["what"] for file in manifest["tally"]["files"]] == ["interactions", "interactions", "items"]
    asked = SourceOptions(domain_files=files, columns="title=name")
    dataset, _ = made(workspace, find_sources("mine", asked, workspace, Events()), name="named")
    assert dict(dataset.catalogue.select("id", "title").iter_rows())["ox"] == "Ann"


def amazon_2023(folder):
    """Two products in variants, of which the metadata has the products alone."""
    texts = [
        {"title": "Tea", "store": "Leaf", "categories": ["Food", "Tea"], "description": ["Hot", "Fine"]},
        {"title": "Pan", "store": None, "categories": [], "description": [], "features": ["Iron", "Big"]},
    ]
    for (_, category), text in zip(PAIRS["food-kitchen"], texts, strict=True):
        reviews = [
            {"rating": rating, "title": "mine", "asin": f"{category}-{n}", "parent_asin": category, "user_id": user,
             "timestamp": 1_588_687_728_923 + 1000 * n}
            for n, (user, rating) in enumerate([("u1", 5.0), ("u2", 3.0), ("u1", 1.0)])
        ]  # fmt: skip
        (folder / f"{category}.jsonl").write_text("\n".join(map(json.dumps, reviews)))
        record = {"main_category": category, "parent_asin": category, **text}
        (folder / f"meta_{category}.jsonl").write_text(json.dumps(record))
    return amazon_pair("food-kitchen", folder, 2023)


def test_amazon_s_release_of_2023(tmp_path, workspace):
    dataset, manifest = made(workspace, amazon_2023(tmp_path))
    assert manifest["release"] == statistics(dataset, manifest)["release"] == 2023
    assert dataset.catalogue.rows() == [
        ("Grocery_and_Gourmet_Food", "Tea", "Leaf", "Food, Tea", "Hot, Fine"),
        ("Home_and_Kitchen", "Pan", None, "Home_and_Kitchen", "Iron, Big"),
    ]
    assert manifest["spans"]["food"] == [1_588_687_728, 1_588_687_730]


def test_low_ratings_are_no_purchases(tmp_path, workspace):
    sources = amazon_2023(tmp_path)
    every, _ = made(workspace, sources)
    settings = FILE_ORDER.model_copy(update={"min_rating": 3.0})
    dataset, manifest = made(workspace, sources, settings)
    assert sequences(dataset) == {user: ["Grocery_and_Gourmet_Food", "Home_and_Kitchen"] for user in ("u1", "u2")}
    assert manifest["tally"]["steps"] == [{"left_out": 2, "what": "rated below 3"}]
    assert manifest["settings"]["min_rating"] == load(workspace.dataset("x")).settings.min_rating == 3.0
    assert dataset.key != every.key
    with pytest.raises(UserError, match="rated 6 or higher: the best is 5"):
        made(workspace, sources, FILE_ORDER.model_copy(update={"min_rating": 6.0}))


def test_who_has_no_rating_is_left_out_and_counted(tmp_path, workspace):
    ratings = ["5", "4,5", "4.0", "3.9", "NaN", "", "none", "1e1"]
    lines = [f"u{n};x{n};{n + 1};{rating}" for n, rating in enumerate(ratings)]
    for name in "ab":
        text = "\n".join(["user;item;time;Stars", *lines]).replace("x", name)
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "c.csv").write_text("user;item;time\nu;x;1\n")
    asked = SourceOptions(domain_files=[str(tmp_path / f"{name}.csv") for name in "ab"])
    settings = data_settings("m", asked, min_rating=4)
    dataset, manifest = made(workspace, find_sources("m", asked, workspace, Events()), settings)
    assert dataset.catalogue["id"].to_list() == ["a0", "a1", "a2", "a7", "b0", "b1", "b2", "b7"]
    assert manifest["tally"]["steps"] == [
        {"left_out": 2, "what": "rated below 4"},
        {"left_out": 6, "what": "without a rating"},
    ]
    without = SourceOptions(domain_files=[str(tmp_path / f"{name}.csv") for name in "ac"])
    with pytest.raises(UserError, match=r"c\.csv has no column known as rating .*--columns rating=NAME"):
        made(workspace, find_sources("m", without, workspace, Events()), settings)


def test_a_description_changes_the_key_of_its_dataset_and_no_other(tmp_path, workspace):
    sources = amazon(tmp_path, FOOD, KITCHEN)
    plain, manifest = made(workspace, sources)
    assert not {"descriptions", "min_rating"} & manifest["settings"].keys()
    described = FILE_ORDER.model_copy(update={"descriptions": {"food": "Groceries"}})
    dataset, manifest = made(workspace, sources, described)
    assert dataset.key != plain.key and manifest["settings"]["descriptions"] == {"food": "Groceries"}
    assert load(workspace.dataset("x")).training_view().domains.described == ("food (Groceries)", "kitchen")
    unknown = FILE_ORDER.model_copy(update={"descriptions": {"Food": "Groceries"}})
    with pytest.raises(UserError, match="--describe Food: the domains are food, kitchen"):
        made(workspace, sources, unknown)
    with pytest.raises(UserError, match="the domains are garden, kitchen"):
        prepare_demo(workspace, unknown, Events())


def test_keys_of_datasets_stay(workspace):
    manifest = prepare_demo(workspace, NO_FILTER, Events())[0].manifest()
    assert (manifest["data_key"], manifest["recipe"]) == ("7ff6aee4e46c2933", "c8a4c6288446ab9d")
    assert "release" not in manifest


def test_a_domain_column_and_those_that_are_chosen(tmp_path, workspace):
    rows = [("u", "x", 1, "b"), ("u", "y", 2, "a"), ("u", "z", 3, "c"), ("v", "x", 4, "b")]
    pl.DataFrame(rows, schema=["user", "item", "time", "domain"], orient="row").write_csv(tmp_path / "log.csv")
    every = find_sources("m", SourceOptions(interactions=tmp_path / "log.csv"), workspace, Events())
    assert made(workspace, every)[0].domains.names == ("b", "a", "c")
    asked = SourceOptions(interactions=tmp_path / "log.csv", domains="a,b")
    dataset, manifest = made(workspace, find_sources("m", asked, workspace, Events()))
    assert dataset.domains.names == ("a", "b")
    assert manifest["tally"]["steps"] == [{"left_out": 1, "what": "of a domain that --domains leaves out"}]
    nobody = find_sources("m", SourceOptions(interactions=tmp_path / "log.csv", domains="A,B"), workspace, Events())
    with pytest.raises(UserError, match="no interaction is of the domains A, B"):
        made(workspace, nobody, name="y")


@pytest.mark.parametrize("with_column", [True, False])
def test_data_that_is_split_already(tmp_path, workspace, with_column):
    parts = {
        "train": [("u", "x", 5, "a"), ("u", "k", 1, "b"), ("v", "x", 2, "a")],
        "valid": [("u", "y", 2, "a")],
        "test": [("u", "k2", 1, "b"), ("v", "y", 9, "a")],
    }
    columns = ["user", "item", "time", *(["domain"] if with_column else [])]
    for part, rows in parts.items():
        frame = pl.DataFrame([row[: len(columns)] for row in rows], schema=columns, orient="row")
        frame.write_csv(tmp_path / f"{part}.csv")
    pl.DataFrame({"item": ["x", "y"], "title": ["X", "Y"]}).write_csv(tmp_path / "a.csv")
    pl.DataFrame({"item": ["k", "k2"], "title": ["K", "K2"]}).write_csv(tmp_path / "b.csv")
    paths = {part: tmp_path / f"{part}.csv" for part in parts}
    items = {} if with_column else {"items": [f"{name}={tmp_path / name}.csv" for name in "ab"]}
    asked = SourceOptions(**paths, **items)
    settings = data_settings("m", asked, ties="file")
    dataset, _ = made(workspace, find_sources("m", asked, workspace, Events()), settings)
    assert dataset.domains.names == ("a", "b")
    assert sequences(dataset) == {"u": ["k", "x", "y", "k2"], "v": ["x", "y"]}
    assert dataset.train_lengths.tolist() == [2, 1]
    assert dataset.targets("valid").positions.tolist() == [2]
    assert dataset.targets("test").positions.tolist() == [3, 1]


def test_items_of_no_known_domain_are_counted(tmp_path, workspace):
    pl.DataFrame({"user": ["u", "u"], "item": ["x", "what"], "time": [1, 2]}).write_csv(tmp_path / "train.csv")
    pl.DataFrame({"user": ["u"], "item": ["k"], "time": [3]}).write_csv(tmp_path / "test.csv")
    for name, item in (("a", "x"), ("b", "k")):
        pl.DataFrame({"item": [item]}).write_csv(tmp_path / f"{name}.csv")
    asked = SourceOptions(
        train=tmp_path / "train.csv",
        test=tmp_path / "test.csv",
        items=[f"{name}={tmp_path / name}.csv" for name in "ab"],
    )
    settings = data_settings("m", asked)
    _, manifest = made(workspace, find_sources("m", asked, workspace, Events()), settings)
    assert manifest["tally"]["steps"] == [{"left_out": 1, "what": "with an item of no known domain"}]
    (tmp_path / "a.csv").write_text("item\nnone of them\n")
    (tmp_path / "b.csv").write_text("item\nnor this\n")
    with pytest.raises(UserError, match="do both use the same ids"):
        prepare(workspace, "y", find_sources("m", asked, workspace, Events()), settings, Events())


def test_a_failed_step_leaves_no_dataset(tmp_path, workspace):
    sources = amazon(tmp_path, [("u", "f", 1)], ['{"broken'])
    with pytest.raises(UserError, match="no JSON object"):
        prepare(workspace, "x", sources, FILE_ORDER, Events())
    assert workspace.datasets() == []
    assert not list(workspace.root.glob(".scratch-*"))


def test_statistics_by_hand(tmp_path, workspace):
    food = [("u1", "f1", 1), ("u1", "f2", 1), ("u1", "f3", 2), ("u2", "f1", 1), ("u2", "f2", 2), ("u2", "f3", 2)]
    kitchen = [("u1", "k1", 3), ("u3", "k1", 1)]
    sources = amazon(tmp_path, food, kitchen, {"food": [{"asin": "f1", "title": "F"}], "kitchen": [{"asin": "k1"}]})
    dataset, manifest = made(workspace, sources)
    found = statistics(dataset, manifest)
    assert (found["users"], found["interactions"], found["users_in_several_domains"]) == (3, 8, 1)
    assert found["average_length"] == pytest.approx(8 / 3)
    assert found["domains"] == [
        {
            "domain": "food", "users": 2, "items": 3, "interactions": 6, "items_with_text": 1 / 3,
            "interactions_with_text": 2 / 6, "valid_targets": 2, "test_targets": 1,
        },
        {
            "domain": "kitchen", "users": 2, "items": 1, "interactions": 2, "items_with_text": 0.0,
            "interactions_with_text": 0.0, "valid_targets": 0, "test_targets": 1,
        },
    ]  # fmt: skip
    # Steps: u1 f1-f2 (tied), f2-f3, f3-k1; u2 f1-f2, f2-f3 (tied). Test targets: k1 of u1, f3 of u2 (tied).
    assert found["ties"] == {"steps": pytest.approx(2 / 5), "test_targets": 1 / 2, "file_ascending": 1.0}
    assert found["r"]["users"] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert found["sample"] == {"one_domain": ["u2", "u3"], "several_domains": ["u1"]}
    json.dumps(found, allow_nan=False)


def test_shuffled_ties_still_tell_of_the_files_own_order(tmp_path, workspace):
    food = [("u", f"f{n:02d}", 5) for n in range(20)]
    dataset, manifest = made(workspace, amazon(tmp_path, food, [("u", "k", 9)]), NO_FILTER)
    assert sequences(dataset)["u"][:20] != [item for _, item, _ in food]
    assert manifest["tie_order"] == {"steps": 19, "ascending": 19}
    down, other = made(workspace, amazon(tmp_path, food[::-1], [("u", "k", 9)]), NO_FILTER)
    assert other["tie_order"] == {"steps": 19, "ascending": 0}
    assert statistics(down, other)["ties"]["file_ascending"] == 0


def test_the_demo_under_other_options(workspace):
    artefact, first = prepare_demo(workspace, DataSettings(window=None, k_core=None, overlap=0.1), Events(), "demo")
    assert first
    assert artefact.manifest()["synthetic"] is True
    dataset = load(artefact)
    counts = dataset.sequences.domain_counts(dataset.domains)
    assert ((counts > 0).sum(1) > 1).sum() == round(0.1 * len(dataset.sequences))
    assert (
        prepare_demo(workspace, DataSettings(window=None, k_core=None, overlap=0.1), Events(), "demo")[1] is False
    )
