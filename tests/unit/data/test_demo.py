"""The built-in pair: the same each time, shaped as figure 1, with structure to learn and no leak by id."""

import numpy as np
import pytest

from edt_cli.data.dataset import TEXT_FIELDS
from edt_cli.data.demo import DEMO_DOMAINS, make_demo
from edt_cli.data.imbalance import imbalance
from edt_cli.data.prepare import ensure_demo
from edt_cli.data.saved import load
from edt_cli.workspace.layout import Workspace


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("demo"))
    ensure_demo(workspace)
    return load(workspace.dataset("demo"))


def test_the_same_each_time():
    (log, items), (again, items_again) = make_demo(), make_demo()
    assert log.equals(again)
    assert items.equals(items_again)
    assert not log.equals(make_demo(7)[0])


def test_size_and_shape(demo):
    counts = demo.sequences.domain_counts(demo.domains)
    assert demo.domains.names == DEMO_DOMAINS
    assert len(demo.sequences) == 3000
    assert 600 <= demo.domains.items <= 1500
    assert 25_000 <= len(demo.sequences.items) <= 35_000
    assert 0.65 <= (imbalance(counts) >= 0.9).mean() <= 0.72, "figure 1: most users in one domain only"
    assert ((counts > 0).sum(1) > 1).mean() > 0.2
    assert np.mean((demo.sequences.lengths >= 5) & (demo.sequences.lengths <= 15)) > 0.8
    assert demo.sequences.lengths.min() >= 3, "everybody has a target"
    tied = (np.diff(demo.times) == 0)[np.diff(demo.sequences.users) == 0]
    assert 0.1 < tied.mean() < 0.3


def test_texts_can_be_read(demo):
    titles = demo.catalogue["title"]
    assert 0.01 < titles.null_count() / len(titles) < 0.1
    assert titles.drop_nulls().str.len_chars().max() < 80
    assert demo.catalogue.filter(demo.catalogue["title"].is_null())[TEXT_FIELDS].null_count().row(0) == (
        titles.null_count(),
    ) * len(TEXT_FIELDS)


def ranks_within_domain(demo, scores_of):
    """Mean reciprocal rank of every eighth test target under `scores_of(history)` [N + 1], seen items left out."""
    targets = demo.targets("test")
    found = []
    for number in range(0, len(targets.users), 8):
        item, span = targets.items[number], demo.domains.range(int(targets.domains[number]))
        history = demo.sequences.of(targets.users[number])[: targets.positions[number]]
        scores = scores_of(history)
        candidates = scores[np.setdiff1d(np.arange(span.start, span.stop), np.setdiff1d(history, [item]))]
        found.append(1 / (1 + (candidates > scores[item]).sum() + 0.5 * ((candidates == scores[item]).sum() - 1)))
    return float(np.mean(found))


def test_order_and_text_tell_more_than_popularity_and_ids_tell_nothing(demo):
    view = demo.training_view()
    popularity = view.popularity().astype(float)
    follows = np.zeros((demo.domains.items + 1,) * 2)
    inside = np.diff(view.prefixes.users) == 0
    np.add.at(follows, (view.prefixes.items[:-1][inside], view.prefixes.items[1:][inside]), 1)
    # What the text says: kind and theme (the first words of the description), smoothed over items that share them.
    described = demo.catalogue["description"].str.split(".").list.first().fill_null("")
    kinds = np.concatenate([[0], described.rank("dense").to_numpy()])
    kind_follows = np.zeros((kinds.max() + 1,) * 2)
    np.add.at(kind_follows, (kinds[view.prefixes.items[:-1][inside]], kinds[view.prefixes.items[1:][inside]]), 1)

    by_popularity = ranks_within_domain(demo, lambda history: popularity)
    by_order = ranks_within_domain(demo, lambda history: follows[history[-1]] + 1e-6 * popularity)
    by_text = ranks_within_domain(
        demo, lambda history: kind_follows[kinds[history[-1]]][kinds] * (popularity + 1) / (popularity.max() + 1)
    )
    near_ids = np.argsort(np.argsort(demo.catalogue["id"].to_numpy()))
    places = np.concatenate([[0], near_ids])
    by_id = ranks_within_domain(demo, lambda history: -np.abs(places - places[history[-1]]).astype(float))
    assert by_order > 2 * by_popularity
    assert by_text > 2 * by_popularity
    assert by_id < by_popularity


def test_taste_is_shared_by_both_domains(demo):
    """What a user bought in one domain tells the theme bought in the other."""
    themes = demo.catalogue["category"].str.split(", ").list.last().fill_null("")
    theme = np.concatenate([[""], themes.to_numpy()])
    same, chance = [], []
    all_themes = theme[demo.sequences.items]
    for user in range(len(demo.sequences)):
        items = demo.sequences.of(user)
        domains = demo.domains.of(items)
        here, there = theme[items[domains == 0]], theme[items[domains == 1]]
        if len(here) and len(there):
            same.append(np.isin(there, here).mean())
            chance.append(np.isin(all_themes[:: len(all_themes) // 200], here).mean())
    assert np.mean(same) > 1.5 * np.mean(chance)
