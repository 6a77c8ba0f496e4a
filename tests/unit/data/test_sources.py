"""From the options of `edt data prepare` to settings and files."""

from pathlib import Path

import pytest

from edt_cli.config import DataSettings, UsageError, UserError
from edt_cli.data.options import SourceOptions, data_settings, find_sources, parse_k_core, parse_window
from edt_cli.data.sources import PAIRS, amazon_pair, checked_domains, recbole_folder
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace


def sources(name, **asked):
    return find_sources(name, SourceOptions(**asked), Workspace(Path("nowhere")), Events())


def shape(found):
    return (
        found.domains,
        [(file.path.name, file.domain, file.part) for file in found.interactions],
        [(file.path.name, file.domain) for file in found.items],
    )


def touch(folder, *names):
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("none", None),
        ("1514736000:1577808000", (1514736000, 1577808000)),
        ("2018-01-01:2020-01-01", (1514764800, 1577836800)),
    ],
)
def test_window(text, window):
    assert parse_window(text) == window


@pytest.mark.parametrize(
    "text", ["", "2018", "a:b", "2020-01-01:2018-01-01", "1:2:3", "5:5", "2018-13-01:2019-01-01"]
)
def test_wrong_window(text):
    with pytest.raises(UsageError, match="--window"):
        parse_window(text)


def test_k_core():
    assert [parse_k_core(text) for text in ("none", "paper", "5")] == [None, "paper", 5]
    for text in ("0", "-1", "five", "1.5", ""):
        with pytest.raises(UsageError, match="--k-core"):
            parse_k_core(text)


def test_a_pair_has_the_released_recipe_and_own_data_none():
    assert data_settings("cloth-sport", SourceOptions()) == DataSettings()
    assert data_settings("mine", SourceOptions()) == DataSettings(window=None, k_core=None)
    assert data_settings("food-kitchen", SourceOptions(), window="none") == DataSettings(window=None)
    assert data_settings("mine", SourceOptions(), k_core="3", ties="file", seed=7).k_core == 3


@pytest.mark.parametrize(
    ("asked", "options", "says"),
    [
        (SourceOptions(), {"split": "given"}, "--train FILE"),
        (SourceOptions(train=Path("t")), {"split": "global-time"}, "split already"),
        (SourceOptions(), {"split": "random"}, "split"),
        (SourceOptions(), {"ties": "id"}, "ties"),
        (SourceOptions(), {"overlap": 1.5}, "overlap"),
    ],
)
def test_settings_that_do_not_fit(asked, options, says):
    with pytest.raises(UsageError, match=says):
        data_settings("mine", asked, **options)


def test_files_that_are_split_make_a_given_split():
    assert data_settings("mine", SourceOptions(train=Path("a"), test=Path("b"))).split == "given"


@pytest.mark.parametrize("template", ["{}.json.gz", "{}.json", "reviews_{}.json.gz", "reviews_{}_5.json.gz"])
def test_amazon_folder(tmp_path, template):
    names = [template.format(category) for _, category in PAIRS["food-kitchen"]]
    touch(tmp_path, *names, "meta_Home_and_Kitchen.json.gz")
    found = shape(amazon_pair("food-kitchen", tmp_path))
    assert found == (
        ("food", "kitchen"),
        [(names[0], "food", None), (names[1], "kitchen", None)],
        [("meta_Home_and_Kitchen.json.gz", "kitchen")],
    )


def test_a_folder_without_the_files_says_how_to_get_them(tmp_path):
    with pytest.raises(UserError, match=r"no Clothing_Shoes_and_Jewelry\.json\.gz.*--download.*gigabytes"):
        amazon_pair("cloth-sport", tmp_path)
    with pytest.raises(UserError, match="no folder"):
        amazon_pair("cloth-sport", tmp_path / "gone")


def test_recbole_folder_with_item_files_beside(tmp_path):
    found = shape(recbole_folder(touch(tmp_path, "toys.inter", "books.inter", "books.item")))
    assert found == (
        ("books", "toys"),
        [("books.inter", "books", None), ("toys.inter", "toys", None)],
        [("books.item", "books")],
    )
    with pytest.raises(UserError, match="no \\.inter"):
        recbole_folder(tmp_path.parent)


def test_two_files_of_ones_own():
    found = sources("mine", domain_files=["shop.csv", "outlet.csv.gz"], items=["outlet=goods.csv"])
    assert shape(found) == (
        ("shop", "outlet"),
        [("shop.csv", "shop", None), ("outlet.csv.gz", "outlet", None)],
        [("goods.csv", "outlet")],
    )


def test_names_for_the_domains():
    found = sources("mine", domain_files=["x/log.csv", "y/log.csv"], domains="food, kitchen")
    assert found.domains == ("food", "kitchen")
    assert [file.domain for file in found.interactions] == ["food", "kitchen"]
    assert sources("food-kitchen", domain_files=["x.json", "y.json"]).domains == ("food", "kitchen")


def test_three_domains():
    found = sources(
        "mine",
        domain_files=["cloth=a.csv", "sport=b.csv", "toys=c.csv"],
        items=["toys=t.csv", "all.csv"],
    )
    assert shape(found)[0] == ("cloth", "sport", "toys")
    assert shape(found)[2] == [("t.csv", "toys"), ("all.csv", None)]


def test_one_file_with_a_domain_column():
    found = sources("mine", interactions=Path("log.parquet"))
    assert shape(found) == (None, [("log.parquet", None, None)], [])
    assert sources("mine", interactions=Path("log.parquet"), domains="b,a").domains == ("b", "a")


def test_files_that_are_split_already():
    found = sources(
        "mine",
        train=Path("tr.csv"),
        valid=Path("va.csv"),
        test=Path("te.csv"),
        items=["f=f.csv", "k=k.csv"],
    )
    assert shape(found) == (
        ("f", "k"),
        [("tr.csv", None, 0), ("va.csv", None, 1), ("te.csv", None, 2)],
        [("f.csv", "f"), ("k.csv", "k")],
    )
    assert [file.part for file in sources("mine", train=Path("a"), test=Path("b")).interactions] == [0, 2]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"domain_files": ["a.csv"], "interactions": Path("b.csv")}, "in one way"),
        ({"domain_files": ["a.csv"], "download": True}, "in one way"),
        ({"domain_files": ["a.csv"]}, "two domains or more"),
        ({"domain_files": ["x/log.csv", "y/log.csv"]}, "the same name"),
        ({"domain_files": ["a.csv", "b.csv"], "domains": "one"}, "names 1 domains"),
        ({"domain_files": ["a.csv", "b.csv"], "domains": "one,[red]"}, "not a valid name for a domain"),
        ({"domain_files": ["a.csv", "=b.csv"]}, "DOMAIN=FILE"),
        ({"train": Path("a.csv")}, "--train and --test"),
        ({"download": True}, "--download knows"),
        ({"domain_files": ["a.csv", "b.csv"], "header": False}, "roles by position"),
        ({}, "not a built-in pair"),
    ],
)
def test_options_that_contradict_each_other(asked, says):
    with pytest.raises(UsageError, match=says):
        sources("mine", **asked)


def test_a_pair_without_files_says_both_ways_in_one_line():
    with pytest.raises(UserError) as caught:
        sources("cloth-sport")
    said = str(caught.value)
    assert "\n" not in said
    for part in ("--download", "--raw DIR", "45 million", "gigabytes", "Sports_and_Outdoors"):
        assert part in said


def test_download_goes_to_the_workspace_and_is_read_from_there(tmp_path, monkeypatch):
    def fetched(name, folder, events):
        folder.mkdir()
        return touch(folder, *(f"{category}.json.gz" for _, category in PAIRS[name]))

    monkeypatch.setattr("edt_cli.data.options.fetch_pair", fetched)
    found = find_sources("elec-phone", SourceOptions(download=True), Workspace(tmp_path), Events())
    assert [file.path for file in found.interactions] == [
        tmp_path / "raw" / "Electronics.json.gz",
        tmp_path / "raw" / "Cell_Phones_and_Accessories.json.gz",
    ]


def test_renamed_amazon_domains(tmp_path):
    touch(tmp_path, *(f"{category}.json" for _, category in PAIRS["elec-phone"]))
    assert sources("elec-phone", raw=tmp_path, domains="x,y").domains == ("x", "y")
    with pytest.raises(UsageError, match="names 3 domains"):
        sources("elec-phone", raw=tmp_path, domains="x,y,z")


def test_too_many_domains():
    with pytest.raises(UsageError, match="too many"):
        checked_domains([f"d{number}" for number in range(20)])
