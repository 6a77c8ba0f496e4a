"""Amazon's reviews in a folder: of which release they are, and which files are read."""

import gzip
import json

import pytest

from edt_cli.config import UsageError, UserError
from edt_cli.data.amazon import PAIRS, amazon_folder, amazon_pair, how_to_get, release_of
from edt_cli.data.options import SourceOptions, find_sources
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

OLD = {"overall": 5.0, "reviewerID": "A1", "asin": "B1", "unixReviewTime": 1}
NEW = {"rating": 5.0, "asin": "B1v", "parent_asin": "B1", "user_id": "A1", "timestamp": 1}
CATEGORIES = [category for _, category in PAIRS["food-kitchen"]]


def write(folder, name, record):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    text = record if isinstance(record, str) else json.dumps(record)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def shape(found):
    return (
        found.release,
        [(file.path.name, file.domain) for file in found.interactions],
        [(file.path.name, file.domain) for file in found.items],
    )


@pytest.mark.parametrize(
    ("template", "record", "release"),
    [
        ("{}.json.gz", OLD, 2018),
        ("{}.json", OLD, 2018),
        ("reviews_{}.json.gz", OLD, 2018),
        ("reviews_{}_5.json.gz", OLD, 2018),
        ("{}.jsonl", OLD, 2018),
        ("{}.jsonl.gz", NEW, 2023),
        ("{}.jsonl", NEW, 2023),
        ("{}.json", NEW, 2023),
        ("{}.csv", "user_id,parent_asin,rating,timestamp\nA1,B1,5.0,1", 2023),
        ("{}.csv.gz", "user_id,parent_asin,rating,timestamp\nA1,B1,5.0,1", 2023),
        ("{}.json.gz", "cut off {", 2018),
    ],
)
def test_the_release_is_that_of_the_files(tmp_path, template, record, release):
    names = [template.format(category) for category in CATEGORIES]
    for name in names:
        write(tmp_path, name, record)
    suffix = ".jsonl.gz" if release == 2023 else ".json.gz"
    write(tmp_path, f"meta_{CATEGORIES[1]}{suffix}", {"parent_asin" if release == 2023 else "asin": "B1"})
    expected = (
        release,
        [(names[0], "food"), (names[1], "kitchen")],
        [(f"meta_{CATEGORIES[1]}{suffix}", "kitchen")],
    )
    assert shape(amazon_pair("food-kitchen", tmp_path)) == expected
    assert shape(amazon_pair("food-kitchen", tmp_path, release)) == expected


def test_a_release_that_is_not_there(tmp_path):
    for category in CATEGORIES:
        write(tmp_path, f"{category}.jsonl.gz", NEW)
    with pytest.raises(UserError, match=r"no Grocery\w+\.json\.gz; .* 2023 release: leave out --release 2018"):
        amazon_pair("food-kitchen", tmp_path, 2018)


def test_of_two_releases_one_is_chosen(tmp_path):
    for category in CATEGORIES:
        for record, suffix, item in ((OLD, ".json.gz", "asin"), (NEW, ".jsonl.gz", "parent_asin")):
            write(tmp_path, f"{category}{suffix}", record)
            write(tmp_path, f"meta_{category}{suffix}", {item: "B1"})
    with pytest.raises(UsageError, match="several releases: choose one with --release 2023"):
        amazon_pair("food-kitchen", tmp_path)
    for year, suffix in ((2018, ".json.gz"), (2023, ".jsonl.gz")):
        found = amazon_pair("food-kitchen", tmp_path, year)
        assert found.release == year
        assert all(file.path.name.endswith(suffix) for file in (*found.interactions, *found.items))
        assert len(found.items) == 2


def test_the_folders_of_the_release_itself(tmp_path):
    for category in CATEGORIES:
        write(tmp_path, f"review_categories/{category}.jsonl", NEW)
        write(tmp_path, f"meta_categories/meta_{category}.jsonl", {"parent_asin": "B1"})
    found = amazon_pair("food-kitchen", tmp_path)
    assert (found.release, len(found.interactions), len(found.items)) == (2023, 2, 2)


def test_a_folder_without_the_files_says_how_to_get_them(tmp_path):
    with pytest.raises(UserError, match=r"no Clothing_Shoes_and_Jewelry\.json\.gz.*--download.*gigabytes"):
        amazon_pair("cloth-sport", tmp_path)
    with pytest.raises(UserError, match="no folder"):
        amazon_pair("cloth-sport", tmp_path / "gone")
    assert "--release 2023 --download fetches them (82 million" in how_to_get("food-kitchen", 2023)
    assert "NAME.jsonl.gz, meta_NAME.jsonl.gz" in how_to_get("food-kitchen", 2023)


def test_other_categories_are_domains(tmp_path):
    for name in ("All_Beauty", "Toys_and_Games"):
        write(tmp_path, f"{name}.jsonl.gz", NEW)
        write(tmp_path, f"meta_{name}.jsonl.gz", {"parent_asin": "B1"})
    write(tmp_path, "notes.csv", "a,b")
    options = SourceOptions(raw=tmp_path, domains="beauty,toys")
    found = find_sources("mine", options, Workspace(tmp_path), Events())
    assert shape(found) == (
        2023,
        [("All_Beauty.jsonl.gz", "beauty"), ("Toys_and_Games.jsonl.gz", "toys")],
        [("meta_All_Beauty.jsonl.gz", "beauty"), ("meta_Toys_and_Games.jsonl.gz", "toys")],
    )
    options = SourceOptions(raw=tmp_path, release=2023)
    assert find_sources("mine", options, Workspace(tmp_path), Events()).domains == ("All_Beauty", "Toys_and_Games")
    write(tmp_path, "Books.train.csv", "user_id,parent_asin,rating,timestamp")
    with pytest.raises(UsageError, match="parts of a split"):
        amazon_folder("mine", tmp_path)


def test_what_is_of_no_release(tmp_path):
    assert release_of(write(tmp_path, "a.csv", "user,item,time")) is None
    assert release_of(tmp_path / "gone.csv") is None
