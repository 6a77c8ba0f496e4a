from __future__ import annotations

import numpy as np
from llm_fakes import embed, make_view

from edt_cli.augmentation.clustering import cluster_items
from edt_cli.llm.embeddings import ItemEmbeddings

TITLES = [f"{kind} number {number}" for kind in ("tea", "kettle", "spade") for number in range(10)]


def test_each_domain_has_its_own_clusters_of_training_items_with_text():
    titles = [None if number in (3, 17) else title for number, title in enumerate(TITLES)]
    view = make_view([[*range(1, 15)], [*range(15, 29)]], [15, 15], titles)  # items 29 and 30 are not in training
    embeddings = embed(view)
    found = cluster_items(view, embeddings, 3, seed=1)
    assert (found.labels[[0, 4, 18]] == -1).all()
    assert (np.delete(found.labels, [0, 4, 18]) >= 0).all()
    for domain in range(2):
        assert len(found.medoids[domain]) == len(found.centroids[domain]) == 3
        for cluster, medoid in enumerate(found.medoids[domain]):
            assert medoid in view.domains.range(domain) and medoid in view.training_items
            distances = np.linalg.norm(embeddings.vectors - found.centroids[domain][cluster], axis=1)
            known = [i for i in view.training_items if i in view.domains.range(domain) and embeddings.has_text[i]]
            assert medoid == min(known, key=lambda item: distances[item])
        for item in view.domains.range(domain):
            if embeddings.has_text[item]:
                distances = np.linalg.norm(found.centroids[domain] - embeddings.vectors[item], axis=1)
                assert found.labels[item] == distances.argmin()


def test_items_that_training_has_not_move_nothing():
    view = make_view([[*range(1, 15)], [*range(15, 29)]], [15, 15], TITLES)
    embeddings = embed(view)
    other = embeddings.vectors.copy()
    other[[29, 30]] = other[[1, 2]]
    plain, moved = (
        cluster_items(view, ItemEmbeddings(v, embeddings.has_text), 4, 1) for v in (embeddings.vectors, other)
    )
    for domain in range(2):
        np.testing.assert_array_equal(plain.centroids[domain], moved.centroids[domain])
        np.testing.assert_array_equal(plain.medoids[domain], moved.medoids[domain])
    np.testing.assert_array_equal(plain.labels[:29], moved.labels[:29])


def test_fewer_items_than_clusters_equal_items_and_empty_domains():
    view = make_view([[1, 2, 3, 4]], [2, 3, 0], ["tea", "kettle", "spade", "spade", None])
    found = cluster_items(view, embed(view), 10, seed=1)
    assert [len(medoids) for medoids in found.medoids] == [2, 1, 0]
    assert found.labels.tolist()[3:] == [0, 0, -1]
    assert found.nearest(np.ones((2, 16), np.float32), 2).tolist() == [-1, -1]
    assert found.nearest(np.zeros((0, 16), np.float32), 0).tolist() == []


def test_the_same_seed_gives_the_same_clusters():
    view = make_view([[*range(1, 31)]], [15, 15], TITLES)
    embeddings = embed(view)
    first, second = (cluster_items(view, embeddings, 4, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.centroids[0], second.centroids[0])
