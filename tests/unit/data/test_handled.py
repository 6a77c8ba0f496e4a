"""The folder that the authors of LLM4CDSR and LLM-EDT release, made here as their code writes it."""

import json
import pickle

import numpy as np
import pytest

from edt_cli.config import UsageError, UserError, load_settings
from edt_cli.data.handled import handled_folder
from edt_cli.data.options import SourceOptions, data_settings
from edt_cli.data.prepare import prepare_from_options
from edt_cli.data.saved import load
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

ITEMS = {"0": ["B001", "B002", "B003"], "1": ["C001", "C002"]}
SEQUENCES = {1: [(1, 0), (1, 1), (2, 0), (1, 0)], 2: [(2, 1), (1, 1), (3, 0)], 3: [(3, 0), (2, 1)]}
VECTORS = np.array([[3.0, 4.0, 0.0], [1, 0, 0], [0, 1, 0], [0, 0, -2], [0, 5, 0]])


def mapped(names):
    return {"str2id": {name: n for n, name in enumerate(names, 1)}, "id2str": dict(enumerate(names, 1))}


def dump(path, value):
    with path.open("wb") as file:
        pickle.dump(value, file)


@pytest.fixture
def folder(tmp_path):
    """What README of LLM4CDSR lists, with titles."""
    place = tmp_path / "handled"
    place.mkdir()
    items = {**{domain: mapped(names) for domain, names in ITEMS.items()}, "item_count": {"0": 3, "1": 2}}
    ids = {"user_dict": mapped(["A", "B", "C"]), "item_dict": items}
    (place / "id_map.json").write_text(json.dumps(ids))
    data, domains = ({u: np.array([row[n] for row in rows]) for u, rows in SEQUENCES.items()} for n in (0, 1))
    dump(place / "cloth_sport.pkl", (data, domains))
    dump(place / "amazon_all.pkl", (data, domains))
    dump(place / "itm_emb_np_all.pkl", VECTORS)
    dump(place / "itm_emb_np_A_pca128.pkl", VECTORS[:3, :2])
    dump(place / "usr_profile_emb.pkl", np.zeros((3, 2)))
    dump(place / "title_A.pkl", ["A shirt", "nan", "A coat"])
    dump(place / "title_B.pkl", [["ball", "red"], "A bat"])
    return place


def prepared(folder, *, name="mine", split=None, **options):
    """The dataset, its manifest and what was said."""
    told = []
    events = Events(listeners=(lambda record: told.append(record.get("message", "")),))
    workspace = Workspace(folder.parent / "ws")
    workspace.root.mkdir(exist_ok=True)
    given = SourceOptions(handled=folder, **options)
    settings = data_settings(name, given, split=split)
    artefact, _ = prepare_from_options(workspace, name, given, settings, events, keep_as=None)
    return load(artefact), artefact.manifest(), told


def sequences(dataset):
    ids = dataset.catalogue["id"].to_list()
    return {
        name: [ids[item - 1] for item in dataset.sequences.of(user)] for user, name in enumerate(dataset.user_ids)
    }


def test_the_order_of_the_authors(folder):
    dataset, manifest, told = prepared(folder)
    assert dataset.domains.names == ("cloth", "sport")
    assert sequences(dataset) == {
        "A": ["B001", "C001", "B002", "B001"], "B": ["C002", "C001", "B003"], "C": ["B003", "C002"],
    }  # fmt: skip
    # The last item is the target, as in the released loader; a user of two items has none.
    assert dataset.target_positions["test"].tolist() == [3, 2, -1]
    assert manifest["split"] == "leave-one-out" and manifest["settings"]["k_core"] is None
    titles = dict(dataset.catalogue.select("id", "title").iter_rows())
    assert titles == {"B001": "A shirt", "B002": None, "B003": "A coat", "C001": "ball, red", "C002": "A bat"}
    assert {file["file"] for file in manifest["source"]} == {
        "cloth_sport.pkl", "title_A.pkl", "title_B.pkl", "itm_emb_np_all.pkl", "id_map.json",
    }  # fmt: skip
    assert not any("generated" in message for message in told)


def test_their_vectors_are_the_items_vectors(folder):
    dataset, manifest, _ = prepared(folder)
    settings = load_settings("content-knn", environment={})
    vectors = Pipeline(Workspace(folder.parent / "ws"), dataset, settings).item_vectors().vectors
    expected = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[1:], expected, atol=1e-6)
    assert manifest["item_vectors"]["label"].startswith("itm_emb_np_all.npy, ")
    (folder / "itm_emb_np_all.pkl").unlink()
    assert prepared(folder)[0].vectors is None
    dump(folder / "itm_emb_np_A.pkl", VECTORS[:3] * 7)
    dump(folder / "itm_emb_np_B.pkl", VECTORS[3:])
    apart, *_ = prepared(folder)
    assert apart.key == dataset.key and apart.vectors.label.startswith("itm_emb_np_A.npy and itm_emb_np_B.npy, ")


def test_vectors_of_one_s_own_in_place_of_theirs(folder, tmp_path):
    np.save(tmp_path / "v.npy", np.eye(2))
    (tmp_path / "v.ids.txt").write_text("B001\nC001")
    dataset, *_ = prepared(folder, item_vectors=[str(tmp_path / "v.npy")])
    assert dataset.vectors.dimension == 2


def test_a_pair_of_the_paper_is_not_filtered_again(folder):
    dataset, manifest, _ = prepared(folder, name="cloth-sport")
    assert len(dataset.user_ids) == 3 and manifest["settings"]["window"] is None
    named, *_ = prepared(folder, domains="wear,play")
    assert named.domains.names == ("wear", "play")
    above, *_ = prepared(folder.parent)
    assert sequences(above) == sequences(dataset)


def test_descriptions_come_before_titles(folder):
    meta = {"B001": {"asin": "B001", "title": "Shirt &amp; tie", "brand": "X", "category": ["Wear", "Men"]}}
    (folder / "item2attributes_A.json").write_text(json.dumps(meta))
    rows = prepared(folder)[0].catalogue.select("title", "brand", "category").rows()
    assert rows[0] == ("Shirt & tie", "X", "Wear, Men") and rows[2][0] == "A coat"


def test_llm_edt_s_files_have_generated_items(folder):
    """Only where there are no others; a generated item may have no id."""
    names = json.loads((folder / "id_map.json").read_text())
    names["item_dict"]["item_count"]["1"] = 3
    (folder / "aug_id_map.json").write_text(json.dumps(names))
    dump(folder / "aug_cloth_sport.pkl", ({1: [1, 3, 2, 1]}, {1: [0, 1, 0, 1]}))
    dump(folder / "aug_itm_emb_np_all.pkl", np.eye(6))
    assert len(prepared(folder)[0].user_ids) == 3
    (folder / "id_map.json").unlink()
    dataset, manifest, told = prepared(folder)
    assert sequences(dataset) == {"A": ["B001", "sport-3", "B002", "C001"]}
    assert manifest["item_vectors"]["items"] == {"cloth": 2, "sport": 2}
    assert "aug_cloth_sport.pkl has generated items among the real ones: any of them may be a target" in told


def refused(folder, *words, kind=UserError, **options):
    with pytest.raises(kind) as refusal:
        prepared(folder, **options)
    message = str(refusal.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert not (folder.parent / "ws" / "data" / "mine").exists()


BOMB = [0] * 1000


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], ["not two dicts by user"]),
        (({1: [1]}, {2: [0]}), ["not two dicts by user"]),
        (({1: [1, 2]}, {1: [0]}), ["more items than domains"]),
        (({1: [4]}, {1: [0]}), ["item 4 of domain 0", "id_map.json does not have"]),
        (({1: [0]}, {1: [0]}), ["item 0 of domain 0"]),
        (({1: [1]}, {1: [2]}), ["item 1 of domain 2"]),
        (({1: ["B001"]}, {1: [0]}), ["not whole numbers"]),
        (({1: [2**70]}, {1: [0]}), ["not whole numbers"]),
        (({1: np.array([1.0])}, {1: [0]}), ["not whole numbers"]),
        (({1: np.array([[1]])}, {1: [0]}), ["not whole numbers"]),
        (({1: [[1]]}, {1: [0]}), ["not whole numbers"]),
        (
            (dict.fromkeys(range(1000), BOMB), dict.fromkeys(range(1000), BOMB)),
            ["more interactions than bytes"],
        ),
        (({}, {}), ["no usable row"]),
    ],
)
def test_interactions_that_are_wrong(folder, value, words):
    dump(folder / "cloth_sport.pkl", value)
    refused(folder, *words)


def test_files_that_do_not_belong_together(folder):
    dump(folder / "itm_emb_np_all.pkl", VECTORS[:4])
    refused(folder, "itm_emb_np_all.pkl has 4 rows, but id_map.json 5 items")
    dump(folder / "itm_emb_np_all.pkl", {"B001": [1.0]})
    refused(folder, "no array of vectors")
    (folder / "itm_emb_np_all.pkl").unlink()
    dump(folder / "title_A.pkl", ["one"])
    refused(folder, "title_A.pkl has 1 rows, but id_map.json 3 items")
    dump(folder / "title_A.pkl", ["one", 2, None])
    refused(folder, "title_A.pkl has a title that is no text")
    (folder / "item2attributes_B.json").write_text("[1]")
    dump(folder / "title_A.pkl", ["one", "two", "three"])
    refused(folder, "item2attributes_B.json is no description")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"user_dict": {}, "item_dict": {"0": {}, "1": {}}}', "[" * 100_000, "null"],
)
def test_ids_that_are_wrong(folder, text):
    (folder / "id_map.json").write_text(text)
    refused(folder, "id_map.json")
    assert (folder / "id_map.json").read_text() == text


def test_a_count_that_no_memory_holds(folder):
    names = json.loads((folder / "id_map.json").read_text())
    names["item_dict"]["item_count"]["0"] = 10**15
    (folder / "id_map.json").write_text(json.dumps(names))
    refused(folder, "id_map.json has no ids")


def test_a_folder_without_the_files(folder):
    dump(folder / "elec_phone.pkl", ({}, {}))
    refused(folder, "several pairs (cloth_sport.pkl, elec_phone.pkl): leave one")
    (folder / "id_map.json").unlink()
    refused(folder, "holds no id_map.json beside a pair")
    refused(folder / "nowhere", "there is no folder")


def test_what_needs_times(folder):
    refused(folder, "cloth_sport.parquet has no times", split="global-time")
    with pytest.raises(UsageError, match="not by --raw and --handled"):
        prepared(folder, raw=folder)


def test_other_files_are_no_pair(folder):
    for name in (
        "adj_attr",
        "user_emb",
        "item_prompt",
        "title_A",
        "douban_all",
        "book_movie_cold",
        "aug_cold",
        "aug_cloth",
    ):
        dump(folder / f"{name}.pkl", [])
    (file,) = handled_folder(folder).interactions
    assert file.path.name == "cloth_sport.pkl"
