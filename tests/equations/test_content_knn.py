"""Content-kNN against a slow float64 version: whitening, cosines, and the sum over the newest items, one by one."""

import numpy as np
import pytest
import torch
from toy import domains_of_size, random_dataset, sequences, text_table

from edt_cli.config import ModelSettings, TrainingSettings, load_settings
from edt_cli.data.dataset import Sequences
from edt_cli.evaluation.ranking import rank
from edt_cli.inference.trained import load_trained
from edt_cli.models.batch import item_table
from edt_cli.models.content_knn import ContentKNN
from edt_cli.models.inputs import ModelInputs, NoOptions
from edt_cli.training.data import TrainingData

DOMAINS = domains_of_size(9, 7)
TRAINED = sequences([1, 10, 3, 11, 2, 12, 4], [10, 11, 12, 13], [1, 2, 5, 6], [14, 5, 15, 6, 3])
INPUTS = sequences([1, 10, 3, 11, 2, 12, 4], [13, 5, 16], [], [7], [8, 5, 8, 8, 2, 9, 4, 12, 11, 3, 16, 6])
WITHOUT_TEXT = (5, 7, 16)
TABLE = text_table(DOMAINS, TRAINED, without_text=WITHOUT_TEXT)


def whitened() -> list[np.ndarray | None]:
    """(C + 0.1 mean variance)^-1/2 (e - mean) over the items with text that training holds; None without text."""
    text = TABLE.text.double().numpy()
    sample = [item for item in sorted(set(TRAINED.items.tolist())) if item not in WITHOUT_TEXT]
    mean = sum(text[item] for item in sample) / len(sample)
    covariance = sum(np.outer(text[item] - mean, text[item] - mean) for item in sample) / len(sample)
    ridged = covariance + 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    variances, axes = np.linalg.eigh(ridged)
    root = sum(np.outer(axis, axis) / np.sqrt(value) for value, axis in zip(variances, axes.T, strict=True))
    return [None if item in (0, *WITHOUT_TEXT) else root @ (text[item] - mean) for item in range(len(text))]


def slow_score(vectors: list[np.ndarray | None], history: list[int], item: int, window: int) -> float:
    total, own = 0.0, vectors[item]
    for age, had in enumerate(history[::-1][:window], start=1):
        other = vectors[had]
        if own is not None and other is not None:
            total += own @ other / (np.linalg.norm(own) * np.linalg.norm(other)) / age
    return total


def scores(inputs: Sequences, window: int, table=TABLE) -> torch.Tensor:
    """[n, 1 + N]."""
    knn = ContentKNN(ModelInputs(table, ModelSettings(knn_window=window), TrainingSettings(), NoOptions()))
    return knn.states(inputs) @ knn.vectors.T


@pytest.mark.parametrize("window", [1, 3, 10])
def test_a_score_is_a_sum_of_cosines_by_age(window):
    vectors, found = whitened(), scores(INPUTS, window)
    for row in range(len(INPUTS)):
        for item in range(1, DOMAINS.items + 1):
            expected = slow_score(vectors, INPUTS.of(row).tolist(), item, window)
            assert found[row, item].item() == pytest.approx(expected, abs=1e-5), (row, item)
    assert found[0].std() > 0.1


def test_what_has_no_text_scores_nothing_and_says_nothing():
    found = scores(INPUTS, 10)
    assert not found[:, list(WITHOUT_TEXT)].any()
    assert not found[2].any() and not found[3].any()  # no history, and one without text


def test_a_row_is_scored_alike_whatever_stands_beside_it():
    whole = scores(INPUTS, 10)
    for row in range(len(INPUTS)):
        torch.testing.assert_close(scores(INPUTS.rows(np.array([row])), 10)[0], whole[row])
    turned = np.arange(len(INPUTS))[::-1].copy()
    torch.testing.assert_close(scores(INPUTS.rows(turned), 10), whole.flip(0))


def test_what_is_older_than_the_window_changes_nothing():
    newest = sequences(INPUTS.of(4).tolist()[-3:])
    torch.testing.assert_close(scores(newest, 3)[0], scores(INPUTS, 3)[4])


def test_a_run_ranks_by_it_with_the_history_of_all_domains(tmp_path):
    dataset = random_dataset(users=20)
    view = dataset.training_view()
    vectors = np.random.default_rng(0).normal(size=(dataset.domains.items + 1, 6)).astype(np.float32)
    vectors[0] = 0
    table = item_table(dataset.domains, view.prefixes, vectors=vectors)
    material = TrainingData(dataset, view, view.prefixes, table, None)
    asked = material.queries("test")
    settings = load_settings("content-knn", environment={})
    scorer = load_trained(material, settings, tmp_path).scorer(asked.inputs, asked.targets.domains)
    every = scores(asked.inputs, settings.model.knn_window, table)
    for domain in range(2):
        rows, items = torch.arange(len(asked)), dataset.domains.range(domain)
        torch.testing.assert_close(scorer.scores(rows, domain), every[:, items.start : items.stop])
    assert not any(tmp_path.iterdir())
    ranks = rank(scorer, asked).full
    assert len(set(ranks.tolist())) > 3
