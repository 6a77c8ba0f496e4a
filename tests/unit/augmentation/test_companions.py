from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llm_fakes import embed, make_view, random_case

from edt_cli.augmentation import companions as module
from edt_cli.augmentation.companions import Companions
from edt_cli.llm.embeddings import ItemEmbeddings


def slow_companions(view, embeddings, target, own):
    """{item: score} of the companions of items `own`."""
    inside = set(view.domains.range(target))
    titles = view.catalogue["title"].to_list()
    baskets = [set(view.prefixes.of(user).tolist()) for user in range(len(view.prefixes))]
    both = [basket for basket in baskets if basket & inside]

    def together(item):
        found = {}
        for basket in both:
            for other in basket & inside if item in basket else ():
                if titles[other - 1] is not None:
                    found[other] = found.get(other, 0) + 1
        return found

    scores = {}
    for item in own:
        domain = view.domains.range(int(view.domains.of(np.array([item]))[0]))
        if not together(item):
            pool = [other for other in domain if embeddings.has_text[other] and together(other)]
            if not pool or not embeddings.has_text[item]:
                continue
            vectors = embeddings.vectors.astype(np.float64)
            item = max(pool, key=lambda other: vectors[item] @ vectors[other])
        have = sum(item in basket for basket in both)
        for other, count in together(item).items():
            popular = sum(other in basket for basket in baskets)
            scores[other] = scores.get(other, 0) + count / (have**0.5 * popular**0.35)
    return scores


@given(seed=st.integers(0, 2**32 - 1), domains=st.sampled_from([2, 3]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_companions_are_what_users_of_both_domains_have(monkeypatch, seed, domains):
    monkeypatch.setattr(module, "BLOCK", 4)
    view, embeddings, _ = random_case(seed, domains)
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=embeddings.vectors.shape).astype(np.float32)  # no two equally near
    embeddings = ItemEmbeddings(vectors, embeddings.has_text)
    target = int(rng.integers(domains))
    others = [item for item in range(1, view.domains.items + 1) if item not in view.domains.range(target)]
    groups = [rng.choice(others, rng.integers(0, 4)).tolist() for _ in range(5)]
    rows = np.repeat(np.arange(5), [len(group) for group in groups])
    items = np.array([item for group in groups for item in group], dtype=np.int64)
    found = Companions(view, embeddings).best(target, rows, items, 5, 3)
    for group, best in zip(groups, found.tolist(), strict=True):
        expected = slow_companions(view, embeddings, target, group)
        chosen = [item for item in best if item]
        assert best == chosen + [0] * (3 - len(chosen)) and len(chosen) == min(3, len(expected))
        assert len(set(chosen)) == len(chosen)
        values = sorted(expected.values(), reverse=True)[:3]
        assert [expected[item] for item in chosen] == pytest.approx(values)


def test_in_blocks_and_alone_the_answer_is_the_same(monkeypatch):
    rng = np.random.default_rng(2)
    view = make_view([rng.choice(np.arange(1, 41), 8).tolist() for _ in range(50)], [20, 20])
    embeddings = embed(view)
    rows, items = np.repeat(np.arange(30), 3), rng.integers(1, 21, 90)
    whole = Companions(view, embeddings).best(1, rows, items, 30, 4)
    assert (whole[:, 0] > 20).all()
    monkeypatch.setattr(module, "BLOCK", 7)
    assert Companions(view, embeddings).best(1, rows, items, 30, 4).tolist() == whole.tolist()
    companions = Companions(view, embeddings)
    for row in range(30):
        own = items[rows == row]
        assert companions.best(1, np.zeros(3, np.int64), own, 1, 4).tolist() == whole[[row]].tolist()


def test_of_equal_companions_the_lower_number_comes_first():
    view = make_view([[1, 4, 5, 6]], [3, 3])
    found = Companions(view, embed(view)).best(1, np.array([0]), np.array([1]), 1, 3)
    assert found.tolist() == [[4, 5, 6]]


def test_where_nobody_is_in_both_domains_there_are_none():
    view = make_view([[1, 2], [4, 5]], [3, 3])
    found = Companions(view, embed(view)).best(1, np.array([0, 0]), np.array([1, 3]), 2, 3)
    assert not found.any()
