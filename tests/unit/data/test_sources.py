"""From the options of `edt data prepare` to settings and files."""

from pathlib import Path

import pytest

from edt_cli.config import DataSettings, UsageError, UserError
from edt_cli.data.amazon import PAIRS
from edt_cli.data.options import SourceOptions, data_settings, find_sources, parse_k_core, parse_window
from edt_cli.data.sources import checked_domains, recbole_folder
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


def test_recbole_folder_with_item_files_beside(tmp_path):
    found = shape(recbole_folder(touch(tmp_path, "toys.inter", "books.inter", "books.item")))
    assert found == (
        ("books", "toys"),
        [("books.inter", "books", None), ("toys.inter", "toys", None)],
        [("books.item", "books")],
    )
    with pytest.raises(UserError, match=r"no \.inter file and no Amazon reviews; .*--domain-file FILE"):
        sources("mine", raw=tmp_path.parent)
    with pytest.raises(UserError, match="no folder"):
        sources("mine", raw=tmp_path / "gone")


SPLIT = ("train", "valid", "test")


def test_recbole_s_parts_of_a_split_are_one_dataset(tmp_path):
    touch(tmp_path, *(f"toys.{part}.inter" for part in SPLIT), "toys.item")
    assert shape(sources("mine", raw=tmp_path)) == (
        None,
        [("toys.test.inter", None, 2), ("toys.train.inter", None, 0), ("toys.valid.inter", None, 1)],
        [("toys.item", None)],
    )
    assert data_settings("mine", SourceOptions(raw=tmp_path)).split == "given"
    with pytest.raises(UsageError, match="split already"):
        data_settings("mine", SourceOptions(raw=tmp_path), split="global-time")
    touch(tmp_path, *(f"books.{part}.inter" for part in SPLIT))
    found = sources("mine", raw=tmp_path, domains="read,play")
    assert found.domains == ("read", "play")
    assert {(file.domain, file.part) for file in found.interactions} == {
        (domain, part) for domain in ("read", "play") for part in range(3)
    }
    assert [file.domain for file in found.items] == ["play"]
    (tmp_path / "books.test.inter").unlink()
    with pytest.raises(UsageError, match=r"lacks .* of books"):
        sources("mine", raw=tmp_path)
    with pytest.raises(UsageError, match="a part of a split"):
        sources("mine", raw=touch(tmp_path, "films.inter"))


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (["train.csv", "valid.csv", "test.csv"], "--train train.csv --valid valid.csv --test test.csv"),
        (["b.csv", "toys_dev.tsv", "toys_train.tsv.gz"], "--train toys_train.tsv.gz --valid toys_dev.tsv"),
        (["a.train.csv", "b.train.csv"], "--domain-file a=a.train.csv --domain-file b=b.train.csv"),
        (["toys.Test.inter", "books.inter"], "--test toys.Test.inter"),
    ],
)
def test_parts_of_a_split_never_become_domains(names, command):
    with pytest.raises(UsageError, match="parts of a split, not domains") as caught:
        sources("mine", domain_files=names)
    assert f"edt data prepare mine {command};" in str(caught.value)
    named = [f"d{number}={name}" for number, name in enumerate(names)]
    assert len(sources("mine", domain_files=named).domains) == len(names)
    assert sources("mine", domain_files=["contest.csv", "latest.csv"]).domains == ("contest", "latest")


def test_files_of_one_domain_are_joined(tmp_path):
    found = sources("mine", domain_files=["food=1.csv", "k.csv", "food=2.csv"])
    assert shape(found)[:2] == (
        ("food", "k"),
        [("1.csv", "food", None), ("2.csv", "food", None), ("k.csv", "k", None)],
    )
    assert sources("mine", domain_files=["food=1.csv", "k.csv", "food=2.csv"], domains="a,b").domains == ("a", "b")
    with pytest.raises(UsageError, match="the same name"):
        sources("mine", domain_files=["food=1.csv", "food.csv"])
    with pytest.raises(UsageError, match="perhaps for capitals: Food, food"):
        sources("mine", domain_files=["Food=1.csv", "food=2.csv"])


def test_a_folder_stands_for_its_files(tmp_path):
    folder = tmp_path / "food.parquet"
    folder.mkdir()
    touch(folder, "part-1.parquet", "part-0.parquet", "_SUCCESS", ".part-0.parquet.crc")
    files = ["part-0.parquet", "part-1.parquet"]
    found = sources("mine", domain_files=[str(folder), "k.csv"], items=[f"k={folder}"])
    assert found.domains == ("food", "k")
    assert [file.path.name for file in found.interactions] == [*files, "k.csv"]
    assert [file.path.name for file in found.items] == files
    assert [file.path.name for file in sources("mine", interactions=folder).interactions] == files
    split = sources("mine", train=folder, test=Path("t.csv"))
    assert [(file.path.name, file.part) for file in split.interactions] == [
        *((name, 0) for name in files),
        ("t.csv", 2),
    ]
    touch(folder, "train.csv", "test.csv")
    for options in ({"domain_files": [str(folder), "k.csv"]}, {"interactions": folder}, {"raw": folder}):
        with pytest.raises(UsageError, match=r"--train \S+train.csv --test \S+test.csv;"):
            sources("mine", **options)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no file that can be read"):
        sources("mine", interactions=empty)


def test_descriptions_are_one_line_of_plain_text():
    made = data_settings("mine", SourceOptions(), describe=["food=Tea <b>and</b>\n more = all", " a b =x"])
    assert made.descriptions == {"food": "Tea and more = all", "a b": "x"}
    for texts, says in (
        (["food"], "DOMAIN=TEXT"),
        (["=x"], "DOMAIN=TEXT"),
        (["food= <p> "], "DOMAIN=TEXT"),
        (["food=" + "x" * 201], "at most 200"),
        (["food=x", "food=y"], "twice"),
    ):
        with pytest.raises(UsageError, match=says):
            data_settings("mine", SourceOptions(), describe=texts)


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
        ({"download": True, "release": 2014}, "--release is 2018 or 2023"),
        ({"domain_files": ["a.csv", "b.csv"], "release": 2023}, "with --raw DIR or --download"),
        ({"domain_files": ["a.csv", "b.csv"], "items": ["c=i.csv"]}, "items of 'c'"),
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


@pytest.mark.parametrize(("release", "suffix"), [(None, ".json.gz"), (2018, ".json.gz"), (2023, ".jsonl.gz")])
def test_download_goes_to_the_workspace_and_is_read_from_there(tmp_path, monkeypatch, release, suffix):
    def fetched(name, folder, events, year):
        assert year == (release or 2018)
        folder.mkdir()
        return touch(folder, *(f"{category}{suffix}" for _, category in PAIRS[name]))

    monkeypatch.setattr("edt_cli.data.options.fetch_pair", fetched)
    options = SourceOptions(download=True, release=release)
    found = find_sources("elec-phone", options, Workspace(tmp_path), Events())
    assert [file.path for file in found.interactions] == [
        tmp_path / "raw" / f"Electronics{suffix}",
        tmp_path / "raw" / f"Cell_Phones_and_Accessories{suffix}",
    ]


def test_renamed_amazon_domains(tmp_path):
    touch(tmp_path, *(f"{category}.json" for _, category in PAIRS["elec-phone"]))
    assert sources("elec-phone", raw=tmp_path, domains="x,y").domains == ("x", "y")
    with pytest.raises(UsageError, match="names 3 domains"):
        sources("elec-phone", raw=tmp_path, domains="x,y,z")


def test_too_many_domains():
    with pytest.raises(UsageError, match="too many"):
        checked_domains([f"d{number}" for number in range(20)])
