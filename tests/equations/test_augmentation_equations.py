"""r, eq. 4, 5 and 6 and the insertion against slow, obvious versions in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_fakes import embed, make_view, random_case

from edt_cli.augmentation.catalogue import TrainingCatalogue
from edt_cli.augmentation.clustering import cluster_items
from edt_cli.augmentation.filtering import (
    LIKELY,
    cells_of,
    insertions_a_user,
    likely_items,
    passes,
    rank,
    score,
    thresholds,
)
from edt_cli.augmentation.generation import choose_questions
from edt_cli.augmentation.insertion import choose_positions, insert
from edt_cli.augmentation.representatives import find_representatives
from edt_cli.config import AugmentationSettings, LLMSettings
from edt_cli.data.dataset import Sequences
from edt_cli.data.imbalance import dominant, imbalance

seeds = given(seed=st.integers(0, 2**32 - 1), domains=st.sampled_from([2, 2, 3]))
few = settings(max_examples=60, deadline=None)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.dot(left.astype(np.float64), right.astype(np.float64)))


@given(a=st.integers(0, 50), b=st.integers(0, 50))
def test_r_is_that_of_section_1(a, b):
    (r,) = imbalance(np.array([[a, b]]))
    assert r == pytest.approx(abs(a - b) / (a + b) if a + b else 0.0)
    assert dominant(np.array([[a, b]]))[0] == (0 if a >= b else 1)


@given(counts=st.lists(st.integers(0, 20), min_size=3, max_size=4))
def test_r_of_several_domains_is_0_at_balance_and_1_for_one_domain(counts):
    (r,) = imbalance(np.array([counts]))
    used = [count for count in counts if count]
    assert 0 <= r <= 1
    assert (r == 1) == (len(used) == 1)
    assert (r == 0) == (len(set(counts)) == 1)


def slow_representatives(view, embeddings, clusters, choice):
    cells = []
    for user in range(len(view.prefixes)):
        for domain in range(len(view.domains)):
            chosen = {}
            for position, item in enumerate(view.prefixes.of(user)):
                label = clusters.labels[item]
                if item not in view.domains.range(domain) or label < 0:
                    continue
                distance = 0.0
                if choice == "centroid":
                    distance = np.linalg.norm(
                        embeddings.vectors[item].astype(np.float64)
                        - clusters.centroids[domain][label].astype(np.float64)
                    )
                if label not in chosen or distance <= chosen[label][0]:
                    chosen[label] = (distance, position, int(item))
            cells.append(sorted(pair[1:] for pair in chosen.values()))
    return cells


@seeds
@few
def test_eq_4_one_representative_for_each_cluster_that_was_touched(seed, domains):
    view, embeddings, clusters = random_case(seed, domains)
    for choice in ("recent", "centroid"):
        found = find_representatives(view, embeddings, clusters, choice)
        fast = [
            list(zip(found.positions[found.of(cell)], found.items[found.of(cell)], strict=True))
            for cell in range(len(found.offsets) - 1)
        ]
        assert fast == slow_representatives(view, embeddings, clusters, choice)


def slow_questions(view, represented, clusters, direction, min_r):
    asked = []
    for user in range(len(view.prefixes)):
        counts = [sum(item in view.domains.range(domain) for item in view.prefixes.of(user)) for domain in range(2)]
        total = sum(counts)
        if not total or abs(counts[0] - counts[1]) / total < min_r:
            continue
        for target, source in ((0, 1), (1, 0)):
            if direction == "minority" and counts[target] >= counts[source]:
                continue
            if (user, source) in represented and len(clusters.medoids[target]):
                asked.append((user, source, target))
    return asked


@given(
    seed=st.integers(0, 2**32 - 1),
    direction=st.sampled_from(["minority", "both"]),
    min_r=st.sampled_from([0, 0.5, 1]),
)
@few
def test_who_is_asked_for_what(seed, direction, min_r):
    view, embeddings, clusters = random_case(seed)
    representatives = find_representatives(view, embeddings, clusters)
    represented = {divmod(cell, 2) for cell in np.flatnonzero(np.diff(representatives.offsets))}
    settings = AugmentationSettings(direction=direction, min_r=min_r)
    found = choose_questions(view, representatives, clusters, settings, LLMSettings())
    asked = list(zip(found.users, found.sources, found.targets, strict=True))
    assert asked == slow_questions(view, represented, clusters, direction, min_r)
    assert found.eligible == len({user for user, _, _ in asked})


def generated_case(seed, domains):
    """Questions of everybody who can be asked, and generated items, some equal to catalogue items."""
    view, embeddings, clusters = random_case(seed, domains)
    rng = np.random.default_rng(seed + 1)
    representatives = find_representatives(view, embeddings, clusters)
    questions = choose_questions(
        view, representatives, clusters, AugmentationSettings(direction="both"), LLMSettings()
    )
    new = rng.normal(size=(4, 6))
    vectors = np.concatenate([embeddings.vectors, new / np.linalg.norm(new, axis=1, keepdims=True)]).astype(
        np.float32
    )
    asked = np.repeat(np.arange(len(questions)), rng.integers(0, 6, len(questions)))
    items = rng.integers(1, len(vectors), len(asked))
    catalogue = TrainingCatalogue(view, embeddings)
    likely = likely_items(questions, representatives, catalogue)
    found = score(vectors, items, asked, questions, representatives, likely, catalogue)
    return view, embeddings, representatives, questions, vectors, items, asked, likely, found


def slow_nearest(view, vectors, item, domain):
    """Cosines with the training items of a domain that have a title, the item itself aside, best first."""
    titles = view.catalogue["title"].to_list()
    pool = [i for i in view.training_items if i in view.domains.range(domain) and titles[i - 1] and i != item]
    return sorted((cosine(vectors[item], vectors[other]) for other in pool), reverse=True)


@seeds
@few
def test_eq_5_scores_and_anchor(seed, domains):
    view, _, representatives, questions, vectors, items, asked, likely, found = generated_case(seed, domains)
    for row, (item, question) in enumerate(zip(items, asked, strict=True)):
        user, source, target = (part[question] for part in (questions.users, questions.sources, questions.targets))

        def compared(domain, user=user, item=item):
            cell = representatives.of(user * domains + domain)
            return [
                (cosine(vectors[item], vectors[other]), position)
                for other, position in zip(
                    representatives.items[cell], representatives.positions[cell], strict=True
                )
            ]

        best, anchor = max(compared(source))
        assert found.source[row] == pytest.approx(best, abs=1e-5)
        assert found.anchors[row] == anchor
        assert view.prefixes.of(user)[anchor] in view.domains.range(source)
        own = [value for value, _ in compared(target)]
        others = [cosine(vectors[item], vectors[other]) for other in likely[question] if other not in (0, item)]
        others = others or slow_nearest(view, vectors, item, target)[:LIKELY]
        expected = max(own) if own else np.mean(others) if others else 0
        assert found.target[row] == pytest.approx(expected, abs=1e-5)
        assert not own or not likely[question].any()


@seeds
@few
def test_eq_6_keeps_the_k_best_by_source_that_reach_the_tau_of_their_cell(seed, domains):
    _, _, representatives, questions, _, _, asked, _, found = generated_case(seed, domains)
    ranks = rank(asked, found.source)
    cells = cells_of(questions, representatives, domains)
    taus, k = np.linspace(0.1, 0.5, 2 * domains), 2
    near, close = passes(ranks, found.target, taus[cells[asked]], AugmentationSettings(keep=k))
    kept = set()
    for question in range(len(questions)):
        user, target = questions.users[question], questions.targets[question]
        own = representatives.of(user * domains + target)
        tau = taus[2 * target + (own.start == own.stop)]
        rows = [row for row in range(len(asked)) if asked[row] == question]
        rows.sort(key=lambda row: -found.source[row])
        assert [ranks[row] for row in rows] == list(range(1, len(rows) + 1))
        kept |= {row for row in rows[:k] if found.target[row] >= tau}
    assert set(np.flatnonzero(near & close)) == kept


def test_without_filtering_everything_is_kept():
    near, close = passes(
        np.array([1, 9]), np.array([0.9, -0.9]), np.array([0.5, 0.5]), AugmentationSettings(filter=False)
    )
    assert near.all() and close.all()


def calibration_case():
    """Cells of very different sizes and scores: cell 2 has fewer candidates than are wanted, cell 3 none."""
    rng = np.random.default_rng(3)
    cells = np.repeat([0, 1, 2, 3], [40, 300, 50, 10])
    asked = np.concatenate([np.repeat(np.arange(340), 5), np.arange(340, 345)])
    scores = rng.random(len(asked)) * 0.2 + 0.1 * cells[asked]
    return cells, asked, rng.random(len(asked)) < 0.6, scores


@pytest.mark.parametrize("a_question", [0.001, 0.1, 0.34, 1.0])
def test_the_paper_s_rate_holds_in_every_cell(a_question):
    cells, asked, ranked, scores = calibration_case()
    found = thresholds("paper", cells, asked, ranked, scores, a_question)
    assert sorted(found) == [0, 1, 2]
    for cell, tau in found.items():
        mine = ranked & (cells[asked] == cell)
        kept, wanted = (mine & (scores >= tau)).sum(), a_question * (cells == cell).sum()
        assert kept == max(1, min(mine.sum(), round(wanted)))
        assert abs(kept - wanted) <= 1 or kept == mine.sum()


def test_tau_is_a_cosine_for_all_or_a_quantile_of_each_cell():
    cells, asked, ranked, scores = calibration_case()
    assert thresholds(0.7, cells, asked, ranked, scores, 1) == dict.fromkeys(range(4), 0.7)
    for cell, tau in thresholds("q0.80", cells, asked, ranked, scores, 1).items():
        assert tau == np.quantile(scores[cells[asked] == cell], 0.8)
    assert thresholds("paper", cells, asked, ranked & False, scores, 1) == {}
    calibrated = thresholds("paper", cells, asked, ranked, scores, 1)
    for text, offset in (("paper+0.05", 0.05), ("paper-.2", -0.2)):
        shifted = thresholds(text, cells, asked, ranked, scores, 1)
        assert shifted == pytest.approx({cell: tau + offset for cell, tau in calibrated.items()})


def test_table_1s_rate_of_each_pair():
    view, _, _ = random_case(3)
    for names, insertions in (
        (("cloth", "sport"), 0.33),
        (("phone", "elec"), 0.21),
        (("food", "kitchen"), 0.34),
        (("a", "b", "c"), 0.33),
    ):
        assert insertions_a_user(type(view.domains)(names, view.domains.starts)) == insertions


@seeds
@few
def test_insertion_right_after_the_anchor_in_descending_score(seed, domains):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, 5)
    prefixes = Sequences(np.concatenate([[0], np.cumsum(lengths)]), rng.integers(1, 9, lengths.sum()))
    users = rng.choice(np.flatnonzero(lengths), rng.integers(0, 12)) if lengths.any() else np.zeros(0, np.int64)
    users = users.astype(np.int64)
    anchors = (rng.random(len(users)) * lengths[users]).astype(np.int64)
    scores, items = rng.choice([0.1, 0.2, 0.3], len(users)), 100 + np.arange(len(users))
    for choice in ("similar", "end", "random"):
        gaps = choose_positions(choice, lengths, users, anchors, np.arange(len(users)), seed=7)
        augmented, inserted = insert(prefixes, users, gaps, scores, items)
        assert len(augmented) == len(prefixes)
        for user in range(len(prefixes)):
            mine = sorted((row for row in range(len(users)) if users[row] == user), key=lambda row: -scores[row])
            expected = [items[[row for row in mine if gaps[row] == 0]].tolist()]
            for position, item in enumerate(prefixes.of(user)):
                after = [items[row] for row in mine if gaps[row] == position + 1]
                expected.append([item, *after])
            assert augmented.of(user).tolist() == [item for part in expected for item in part]
        assert augmented.items[~inserted].tolist() == prefixes.items.tolist()
        assert sorted(augmented.items[inserted]) == items.tolist()
        if choice == "similar":
            assert (gaps == anchors + 1).all()
        if choice == "end":
            assert (gaps == lengths[users]).all()
        assert ((gaps >= 0) & (gaps <= lengths[users])).all()


def test_random_gaps_are_uniform_and_depend_on_nobody_else():
    lengths = np.full(4000, 4)
    users, slots = np.arange(4000), np.zeros(4000, np.int64)
    gaps = choose_positions("random", lengths, users, users, slots, seed=1)
    assert np.bincount(gaps, minlength=5) == pytest.approx(np.full(5, 800), rel=0.15)
    some = choose_positions("random", lengths, users[::7], users[::7], slots[::7], seed=1)
    assert (some == gaps[::7]).all()
    assert (choose_positions("random", lengths, users, users, slots, seed=2) != gaps).any()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((5, 3, 1), [(0, 1), (0, 2)]),
        ((5, 5, 0), [(0, 2)]),
        ((3, 5, 5), [(1, 0)]),
        ((2, 2, 2), []),
        ((0, 0, 4), [(2, 0), (2, 1)]),
    ],
)
def test_of_three_domains_each_is_asked_for_from_the_largest_other(counts, expected):
    sequence = [domain + 1 for domain, count in enumerate(counts) for _ in range(count)]
    view = make_view([sequence, [1, 2, 3]], [1, 1, 1])
    embeddings = embed(view)
    clusters = cluster_items(view, embeddings, 10, seed=1)
    representatives = find_representatives(view, embeddings, clusters)
    found = choose_questions(view, representatives, clusters, AugmentationSettings(), LLMSettings())
    assert list(zip(found.sources, found.targets, strict=True)) == expected
