"""Vectors that come with a dataset: which item gets which, what is counted, and what models then read."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from edt_cli.config import UsageError, UserError, load_settings
from edt_cli.data.options import SourceOptions, data_settings
from edt_cli.data.prepare import NO_FILTER, prepare, prepare_from_options
from edt_cli.data.saved import load
from edt_cli.data.sources import File, files_per_domain, renamed
from edt_cli.pipeline import Pipeline
from edt_cli.training.sizes import parameters
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

IDS = {"food": ["f0", "f1", "f2", "f3"], "home": ["h0", "h1", "h2", "h3"]}


@pytest.fixture
def place(tmp_path):
    """Two domains of four items each, and a workspace."""
    for domain, ids in IDS.items():
        rows = [(f"u{user}", ids[(user + step) % 4], 100 + step) for user in range(5) for step in range(3)]
        frame = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
        frame.with_columns(title=pl.lit("a thing of ") + domain).write_csv(tmp_path / f"{domain}.csv")
    (tmp_path / "ws").mkdir()
    return tmp_path


def write(path, vectors):
    """A file of vectors by id."""
    np.save(path, np.array(list(vectors.values()), np.float32))
    path.with_suffix(".ids.txt").write_text("\n".join(vectors))
    return path


def options(place, *vectors):
    files = [str(place / f"{domain}.csv") for domain in IDS]
    return SourceOptions(domain_files=files, item_vectors=[str(one) for one in vectors])


def prepared(place, *vectors):
    """The dataset, its manifest, and what was said."""
    told = []
    events = Events(listeners=(lambda record: told.append(record.get("message", "")),))
    given = options(place, *vectors)
    artefact, _ = prepare_from_options(
        Workspace(place / "ws"), "mine", given, data_settings("mine", given), events, keep_as=None
    )
    return load(artefact), artefact.manifest(), told


def pipeline(place, dataset, model="content-knn", **sections):
    settings = load_settings(model, flags=sections, environment={})
    return Pipeline(Workspace(place / "ws"), dataset, settings)


FOUR = {"f0": [3.0, 4.0], "f1": [0.0, 2.0], "f3": [1.0, 0.0], "h1": [-1.0, 0.0], "h2": [0.0, 0.0], "x": [1.0, 1.0]}


def test_models_read_them_by_item_number_and_of_length_one(place):
    dataset, manifest, _ = prepared(place, write(place / "v.npy", FOUR))
    embeddings = pipeline(place, dataset).item_vectors()
    by_id = dict(zip(dataset.catalogue["id"], embeddings.vectors[1:].astype(float).round(4).tolist(), strict=True))
    assert by_id["f0"] == [0.6, 0.8] and by_id["f1"] == [0.0, 1.0] and by_id["h1"] == [-1.0, 0.0]
    assert by_id["f2"] == by_id["h0"] == by_id["h2"] == [0.0, 0.0] and "x" not in by_id
    # As an item without text is treated, although all have a title.
    known = [False, *(name in ("f0", "f1", "f3", "h1") for name in dataset.catalogue["id"])]
    assert embeddings.has_text.tolist() == dataset.has_text.tolist() == known
    tally = manifest["tally"]
    assert tally["items without a vector"] == 4
    assert tally["vectors of zeros, which count as none"] == 1
    assert tally["vectors of items that are not in the data"] == 1
    assert manifest["item_vectors"]["items"] == {"food": 3, "home": 1}
    assert manifest["item_vectors"]["label"].startswith("v.npy, ")
    assert [file["file"] for file in manifest["source"][2:]] == ["v.npy", "v.ids.txt"]


def test_no_embedder_is_used_for_a_model_that_reads_items_alone(place):
    dataset, *_ = prepared(place, write(place / "v.npy", FOUR))
    made = pipeline(place, dataset)
    run = made.run()
    assert not (place / "ws" / "artefacts").exists()
    assert run.plan["artefacts"] == {} and run.plan["item_vectors"] == dataset.vectors.label
    assert "item_vectors" not in pipeline(place, dataset, "item-knn")._plan()


def test_the_vectors_are_part_of_the_dataset(place):
    plain, manifest, _ = prepared(place)
    assert plain.vectors is None and "item_vectors" not in manifest and set(manifest["content"]) == {
        "interactions.parquet", "users.parquet", "items.parquet"
    }  # fmt: skip
    first, *_ = prepared(place, write(place / "v.npy", FOUR))
    again, *_ = prepared(place, write(place / "other name.npy", FOUR))
    changed, *_ = prepared(place, write(place / "v.npy", {**FOUR, "f0": [3.0, 5.0]}))
    assert len({plain.key, first.key, changed.key}) == 3 and again.key == first.key
    # Only the order of the ids has changed: another file all the same.
    (place / "v.ids.txt").write_text("\n".join(reversed(FOUR)))
    reordered, *_ = prepared(place, place / "v.npy")
    assert reordered.key != changed.key


def test_a_file_of_the_domain_takes_precedence(place):
    everything = write(place / "all.npy", {name: [1.0, 0.0] for ids in IDS.values() for name in ids})
    food = write(place / "food.npy", {"f0": [0.0, 1.0], "h0": [0.0, 1.0]})
    dataset, manifest, _ = prepared(place, f"food={food}", everything)
    embeddings = pipeline(place, dataset).item_vectors()
    by_id = dict(zip(dataset.catalogue["id"], embeddings.vectors[1:].astype(float).tolist(), strict=True))
    assert by_id["f0"] == [0.0, 1.0] and by_id["f1"] == [1.0, 0.0] and by_id["h0"] == [1.0, 0.0]
    assert "items without a vector" not in manifest["tally"]


def test_what_matches_nothing_or_little(place):
    with pytest.raises(UserError, match=r"no item of the data is in v.npy, such as f0, f1, f2 \(there: 0, 1, 2\)"):
        prepared(place, write(place / "v.npy", {str(row): [1.0] for row in range(5)}))
    with pytest.raises(UserError, match=r"no item of home is in v.npy, such as h0, h1, h2 \(there: f0\)"):
        prepared(place, f"home={write(place / 'v.npy', {'f0': [1.0]})}")
    _, _, told = prepared(place, write(place / "v.npy", {"f0": [1.0], "y": [1.0], "x": [2.0]}))
    assert "only 1 of 8 items of the data are in v.npy; not f1, f2, f3 (there: x, y)" in told


def test_mistakes_are_one_line(place):
    good = write(place / "a.npy", {"f0": [1.0, 2.0]})
    longer = write(place / "b.npy", {"f1": [1.0, 2.0, 3.0]})
    with pytest.raises(UserError, match=r"a.npy has vectors of 2 numbers, b.npy of 3"):
        prepared(place, good, longer)
    wrong = write(place / "c.npy", {"f0": [np.nan, 0.0], "f1": [np.inf, 0.0], "f2": [1.0, 0.0], "x": [np.nan, 0.0]})
    with pytest.raises(UserError, match=r"c.npy: 2 vectors have numbers .* NaN or infinite, such as of f0, f1"):
        prepared(place, wrong)
    with pytest.raises(UsageError, match="vectors of 'toys', which is not a domain: food, home"):
        prepared(place, f"toys={good}")
    with pytest.raises(UserError, match=r"cannot read .*none.npy"):
        prepared(place, place / "none.npy")
    with pytest.raises(UsageError, match="demo is built in"):
        prepare_from_options(
            Workspace(place / "ws"),
            "demo",
            SourceOptions(item_vectors=["a.npy"]),
            NO_FILTER,
            Events(),
            keep_as=None,
        )
    assert not (place / "ws" / "data" / "mine").exists()


def test_half_precision_and_whole_numbers(place):
    np.save(place / "v.npy", np.array([[3, 4], [0, 9]], np.int8))
    (place / "v.ids.txt").write_text("f0\nh0")
    dataset, *_ = prepared(place, place / "v.npy")
    assert pipeline(place, dataset).item_vectors().vectors[1].astype(float).round(4).tolist() == [0.6, 0.8]


def test_generated_texts_have_no_such_vector(place, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_API_KEY", "not a key")
    dataset, *_ = prepared(place, write(place / "v.npy", FOUR))
    with pytest.raises(UsageError, match=r"set augmentation.ground = match"):
        pipeline(place, dataset, "llm-edt-ce", llm={"provider": "deepseek"})
    pipeline(place, dataset, "llm-edt-ce", llm={"provider": "deepseek"}, augmentation={"ground": "match"})
    pipeline(place, dataset, "best", llm={"provider": "deepseek"})
    pipeline(place, dataset, "llm-edt-ce")
    pipeline(place, dataset, "sasrec", llm={"provider": "deepseek"})


def test_the_size_of_a_model_is_that_with_these_vectors(place):
    settings = load_settings("sasrec", flags={"model": {"encoder": "llm"}}, environment={})
    plain, *_ = prepared(place)
    without = parameters(plain, settings)
    given, *_ = prepared(place, write(place / "v.npy", FOUR))
    assert parameters(given, settings) < without


def test_the_llm_stages_use_the_embedder(place):
    dataset, *_ = prepared(place, write(place / "v.npy", FOUR))
    made = pipeline(place, dataset, "llm-edt-ce")
    assert sorted(made.artefact_keys()) == ["augmentation", "profiles"]
    assert made.embeddings_key == pipeline(place, dataset).embeddings_key


def test_renaming_domains_renames_those_of_vectors(place):
    sources = files_per_domain({"food": [place / "food.csv"], "home": [place / "home.csv"]}, [])
    vectors = (File(write(place / "v.npy", FOUR), "food"),)
    artefact, _ = prepare(
        Workspace(place / "ws"), "mine", renamed(replace(sources, vectors=vectors), ("a", "b")), NO_FILTER, Events()
    )
    assert json.loads((artefact.path / "manifest.json").read_text())["item_vectors"]["items"] == {"a": 3, "b": 0}
