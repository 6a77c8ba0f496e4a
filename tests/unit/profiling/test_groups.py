"""The sub-sequences of section 3.4.1 against a slow, obvious version."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_fakes import embed, make_view, random_case

from edt_cli.augmentation.artefact import PSEUDO, Augmentation
from edt_cli.augmentation.insertion import insert
from edt_cli.llm.prompt_set import NO_DOMAIN, Prompts, others
from edt_cli.profiling import groups as module
from edt_cli.profiling.groups import group_sequences, sources


def augmented_case(seed, domains):
    """Random sequences with pseudo-items and catalogue items inserted at random."""
    view, embeddings, clusters = random_case(seed, domains)
    rng = np.random.default_rng(seed + 1)
    last = view.domains.items
    pseudo = pl.DataFrame(
        [(last + 1 + row, int(rng.integers(domains)), f"new {row}", None, None, None) for row in range(3)],
        schema=PSEUDO,
        orient="row",
    )
    users = rng.integers(0, len(view.prefixes), 8)
    gaps = (rng.random(8) * (view.prefixes.lengths[users] + 1)).astype(np.int64)
    sequences, inserted = insert(view.prefixes, users, gaps, rng.random(8), rng.integers(1, last + 4, 8))
    vectors = rng.normal(size=(3, 6))
    augmentation = replace(
        Augmentation.none(view), sequences=sequences, inserted=inserted, pseudo=pseudo, pseudo_vectors=vectors
    )
    return view, augmentation, embeddings, clusters


@given(seed=st.integers(0, 2**32 - 1), domains=st.sampled_from([2, 3]), most=st.integers(1, 4), naive=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_last_titles_of_each_cluster_and_where_they_come_from(seed, domains, most, naive):
    view, augmentation, embeddings, clusters = augmented_case(seed, domains)
    domain_of = augmentation.domain_of(view.domains)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TITLES_A_CLUSTER", most)
        patch.setattr(module, "TITLES_A_DOMAIN", most)
        found = group_sequences(view, augmentation, embeddings, None if naive else clusters)

    def label(item):
        if item <= view.domains.items:
            return -1 if not embeddings.has_text[item] else 0 if naive else clusters.labels[item]
        vector = augmentation.pseudo_vectors[item - view.domains.items - 1]
        return 0 if naive else np.linalg.norm(clusters.centroids[domain_of[item]] - vector, axis=1).argmin()

    used = set()
    for user in range(len(view.prefixes)):
        sequence = augmentation.sequences.of(user)
        start = augmentation.sequences.offsets[user]
        own = augmentation.inserted[start : start + len(sequence)]
        for domain in range(domains):
            of_cluster = {}
            for place, item in enumerate(sequence):
                if domain_of[item] == domain and label(item) >= 0:
                    of_cluster.setdefault(label(item), []).append(place)
            expected = [
                (start + place, cluster) for cluster in sorted(of_cluster) for place in of_cluster[cluster][-most:]
            ]
            rows = found.of(user * domains + domain)
            assert list(zip(found.indices[rows], found.labels[rows], strict=True)) == expected
            for place, _ in expected:
                if not own[place - start]:
                    used.add((user, int((~own[: place - start]).sum()), int(sequence[place - start])))
    everybody = np.arange(len(view.prefixes))
    assert set(sources(augmentation, found, everybody).rows()) == used
    assert set(sources(augmentation, found, everybody[:2]).rows()) == {row for row in used if row[0] < 2}
    for user, position, item in used:
        assert view.prefixes.of(user)[position] == item


def test_nothing_to_group():
    view = make_view([[], [1]], [1, 1], [None, None])
    found = group_sequences(view, Augmentation.none(view), embed(view), None)
    assert found.offsets.tolist() == [0] * 5 and not len(found.indices)


def test_degrees_by_r():
    r = np.array([0, 0.19, 0.2, 0.4, 0.59, 0.6, 0.79, 0.8, 0.95, 1])
    found = Prompts().instructions
    assert found.degree(r).tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 4, 5], "of who has one domain nothing is known"
    names = ["food", "kitchen", "garden"]
    assert [found.pair(degree, 1) for degree in range(6)] == [(0, NO_DOMAIN), *((n, 1) for n in range(1, 6))]
    texts = {found.text(*found.pair(number, 1), names) for number in range(6)}
    assert len(texts) == 6 and not any("$" in text for text in texts)
    assert all("kitchen" in found.text(number, 1, names) for number in range(1, 6))
    assert others(1, names) == "food, garden" and others(0, ["food"]) == "other domains"


def test_local_has_the_five_instructions_that_its_profiles_rest_on():
    found = Prompts(local=True).instructions
    assert found.name == "instructions@1" and len(found) == 5
    assert found.degree(np.array([0.8, 1.0])).tolist() == [4, 4] and found.pair(0, 1) == (0, 1)
