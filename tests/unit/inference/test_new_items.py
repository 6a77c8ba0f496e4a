"""Items that came after training are ranked by their texts, and nothing else moves."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from toy import KINDS, model_settings, random_dataset

from edt_cli.config import TrainingSettings
from edt_cli.inference.new_items import extended
from edt_cli.inference.recommend import known_users, recommend
from edt_cli.models.batch import item_table
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.systems import make_model, needs, options_of
from edt_cli.training.data import TrainingData

WIDTH = 6
WITH_TEXT = [kind for kind, settings in KINDS.items() if settings["encoder"] != "id"]
MADE = random_dataset()
NEW = pl.DataFrame(
    {"id": ["a-new", "a-newer", "b-new"], "domain": [0, 0, 1], "title": ["thing a3", "unheard of", "thing b1"]}
).with_columns(pl.lit(None, pl.String).alias(name) for name in ("brand", "category", "description"))


def unit(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit(len(NEW), 2)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """With two pseudo-items, the first of which everybody has, and an item without training."""
    view = MADE.training_view()
    catalogue, text = MADE.domains.items, unit(MADE.domains.items + 3, 1)
    text[0] = 0
    sequences = view.prefixes
    items = np.where(np.isin(sequences.items, (5, 9)), 1 + (sequences.items == 9), sequences.items)
    items[sequences.offsets[:-1]] = catalogue + 1
    rows = type(sequences)(sequences.offsets, items, sequences.times)
    domain_of = np.append(MADE.domains.of(np.arange(catalogue + 1)), [0, 1])
    return TrainingData(MADE, view, rows, item_table(view.domains, rows, domain_of, text), None)


def inputs(kind: str, data: TrainingData) -> ModelInputs:
    chosen, own = model_settings(kind)
    profiles = torch.from_numpy(unit(len(data.sequences), 3)) if "user profiles" in needs(chosen) else None
    options = options_of(chosen.name, own)
    return ModelInputs(data.table, chosen, TrainingSettings(), options, data.sequences, data.view, profiles)


@pytest.mark.parametrize("kind", WITH_TEXT)
def test_a_trained_model_takes_new_items_and_ranks_the_others_as_before(kind, data):
    more = extended(data, NEW, VECTORS)
    torch.manual_seed(0)
    before = make_model(inputs(kind, data)).eval()
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    after = make_model(inputs(kind, more)).eval()
    after.load_state_dict(before.state_dict())
    numbers = [data.dataset.item_number(name) for name in data.dataset.catalogue["id"]]
    moved = [more.dataset.item_number(name) for name in data.dataset.catalogue["id"]]
    assert torch.allclose(before.item_vectors()[numbers], after.item_vectors()[moved], atol=1e-5)
    if before.side_score is not None:
        return  # Among more titles, those that are alike weigh otherwise.
    domains = np.zeros(len(MADE.user_ids), np.int64)
    one, other = (
        model.scorer(of.sequences, domains).scores(torch.arange(len(domains)), 0)
        for model, of in ((before, data), (after, more))
    )
    assert other.shape[1] == one.shape[1] + 2
    assert torch.allclose(one, other[:, :-2], atol=1e-4), "new items come last in their domain"


def test_the_catalogue_goes_on_with_the_new_items(data):
    more = extended(data, NEW, VECTORS)
    catalogue, domains = more.dataset.catalogue, more.dataset.domains
    assert [len(domains.range(domain)) for domain in (0, 1)] == [14, 13]
    for name, domain in zip(NEW["id"], NEW["domain"], strict=True):
        number = more.dataset.item_number(name)
        assert int(domains.of(np.array([number]))[0]) == domain == int(more.table.domain_of[number])
        assert int(more.table.counts[number]) == 0 and more.table.new[number]
        assert np.array_equal(more.table.text[number].numpy(), VECTORS[NEW["id"].to_list().index(name)])
    for sequences, old in ((more.dataset.sequences, MADE.sequences), (more.view.prefixes, data.view.prefixes)):
        ids = [of["id"].to_numpy()[rows.items - 1] for of, rows in ((catalogue, sequences), (MADE.catalogue, old))]
        assert np.array_equal(*ids)
    pseudo = data.sequences.items > MADE.domains.items
    assert np.array_equal(more.sequences.items[pseudo], data.sequences.items[pseudo] + len(NEW))
    assert int(more.table.counts.sum()) == int(data.table.counts.sum())
    assert catalogue["title"][more.dataset.item_number("a-new") - 1] == "thing a3"


def test_an_item_like_one_of_the_history_is_recommended_without_training(data):
    """Content-kNN of the newest item: who had a3 gets what has its text."""
    number = MADE.item_number("a3")
    more = extended(data, NEW, np.stack([data.table.text[number].numpy(), *VECTORS[1:]]))
    model = make_model(inputs("llm-edt started from its text", more)).eval()
    vectors = model.item_vectors()
    assert torch.allclose(vectors[more.dataset.item_number("a-new")], vectors[more.dataset.item_number("a3")])
    shown = recommend(more, model, known_users(more, MADE.user_ids[:5]), count=20, domains=[0], keep_seen=True)
    ranks = shown.filter(pl.col("item").is_in(["a-new", "a3"])).group_by("user").agg(pl.col("score").n_unique())
    assert ranks["score"].to_list() == [1] * 5, "where texts are equal, so are scores"


def test_what_an_id_has_learned_is_not_lent_to_a_new_item(data):
    more = extended(data, NEW, VECTORS)
    model = make_model(inputs("llm-edt with joint threads", more)).eval()
    with torch.no_grad():
        model.encoder.by_id.weight.add_(1.0)
    new = torch.tensor([more.dataset.item_number(name) for name in NEW["id"]])
    assert torch.equal(model.encode_items(new), model.encoder.by_text(new))
    assert not torch.equal(model.encode_items(new - 5), model.encoder.by_text(new - 5))
