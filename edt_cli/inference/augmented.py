"""What systems add to histories: users by r (figure 1), and the items of both domains on a map (figure 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import Settings, UserError
from edt_cli.data.dataset import Dataset, Domains
from edt_cli.data.imbalance import imbalance
from edt_cli.data.stats import BINS
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.models.llmcdsr import LLMCDSROptions
from edt_cli.models.systems import options_of

EDGES = np.linspace(0, 1, BINS + 1)
NEIGHBOURS = 10
SEED = 42
"""Seed of the sample of items and of t-SNE."""
SAMPLE = 800
"""Items of each kind on a map."""
COMPARED = 4000
"""Items of the catalogue whose neighbours are counted."""
CHUNK = 1024


# Figure 1.


def r_before(dataset: Dataset) -> np.ndarray:
    """Return r of each user's whole history: [U]."""
    return imbalance(dataset.sequences.domain_counts(dataset.domains))


def r_inserted(dataset: Dataset, augmentation: Augmentation) -> np.ndarray:
    """Return r of each user with the items that LLM-EDT inserted: [U]."""
    items, users = augmentation.sequences.items, augmentation.sequences.users
    inserted = augmentation.inserted
    counts = dataset.sequences.domain_counts(dataset.domains).copy()
    np.add.at(counts, (users[inserted], augmentation.domain_of(dataset.domains)[items[inserted]]), 1)
    return imbalance(counts)


def r_recalled(dataset: Dataset, augmentation: Augmentation, s: Settings) -> np.ndarray:
    """Return r of each user with the items that LLMCDSR recalls by its generated items: [U].

    For each user and domain with generated items it inserts the `recalled` nearest training items of the domain
    that are not among the newest `max_length` of the user. So their number is known without the trained network.
    """
    options = options_of(s.model.name, s.options)
    assert isinstance(options, LLMCDSROptions)
    view = dataset.training_view(s.training.train_on)
    kept = augmentation.generated.filter("kept").select("user", "target").unique()
    users, targets = kept["user"].to_numpy(), kept["target"].to_numpy()
    prefixes, domains = view.prefixes, dataset.domains
    newest = np.arange(len(prefixes.items)) >= prefixes.offsets[prefixes.users + 1] - s.model.max_length
    pairs = np.unique(np.stack([prefixes.users[newest], prefixes.items[newest]]), axis=1)
    seen = np.zeros((len(prefixes), len(domains)), np.int64)
    np.add.at(seen, (pairs[0], domains.of(pairs[1])), 1)
    trained = np.bincount(domains.of(view.training_items), minlength=len(domains))
    counts = dataset.sequences.domain_counts(domains).copy()
    counts[users, targets] += np.minimum(options.recalled, trained[targets] - seen[users, targets])
    return imbalance(counts)


# Figure 3.


class Neighbours(NamedTuple):
    """Mean share of an item's ten nearest that are of another domain, by domain; NaN for a domain without items."""

    before: np.ndarray
    """[D], among the catalogue's items."""
    after: np.ndarray
    """[D], among these and the generated ones."""
    inserted: np.ndarray
    """[D], of the inserted items of a domain, among both."""


@dataclass(frozen=True)
class ItemMap:
    """Items of the catalogue and inserted items in one plane, by one t-SNE over all of them.

    Attributes:
        places: [n, 2].
        domains: [n], their domains.
        inserted: Bool [n], whether an item was inserted into a history.
        catalogue: Bool [n], whether it is of the catalogue; a generated item is not.
        neighbours: How near the domains are, in the space of the embedder.
        sizes: Number of catalogue items with text, and of different inserted items, of each domain: two [D].
    """

    places: np.ndarray
    domains: np.ndarray
    inserted: np.ndarray
    catalogue: np.ndarray
    neighbours: Neighbours
    sizes: tuple[np.ndarray, np.ndarray]


def item_map(dataset: Dataset, embeddings: ItemEmbeddings, augmentation: Augmentation) -> ItemMap:
    """Place a sample of both kinds of items in a plane by t-SNE, always the same for the same data.

    Raises:
        UserError: If there are too few items with text.
    """
    from sklearn.manifold import TSNE

    random = np.random.default_rng(SEED)
    vectors, domain_of = augmentation.vectors(embeddings), augmentation.domain_of(dataset.domains)
    real = np.flatnonzero(embeddings.has_text)
    inserted = np.unique(augmentation.sequences.items[augmentation.inserted])
    inserted = inserted[np.abs(vectors[inserted]).sum(1) > 0]
    sampled = [_some(random, real[domain_of[real] == domain]) for domain in range(len(dataset.domains))]
    shown = np.unique(np.concatenate([*sampled, _some(random, inserted)]))
    if len(shown) < 5:
        raise UserError(f"{dataset.name} has too few items with text for a map of them")
    plane = TSNE(init="pca", random_state=SEED, perplexity=min(30.0, (len(shown) - 1) / 3))
    return ItemMap(
        places=plane.fit_transform(vectors[shown]),
        domains=domain_of[shown],
        inserted=np.isin(shown, inserted),
        catalogue=shown <= dataset.domains.items,
        neighbours=_neighbours(random, vectors, domain_of, real, inserted, dataset.domains),
        sizes=tuple(np.bincount(domain_of[of], minlength=len(dataset.domains)) for of in (real, inserted)),  # type: ignore[arg-type]
    )


def _some(random: np.random.Generator, items: np.ndarray, count: int = SAMPLE) -> np.ndarray:
    return items if len(items) <= count else random.choice(items, count, replace=False)


def _neighbours(
    random: np.random.Generator,
    vectors: np.ndarray,
    domain_of: np.ndarray,
    real: np.ndarray,
    inserted: np.ndarray,
    domains: Domains,
) -> Neighbours:
    """Count the nearest items of another domain, of a sample of the catalogue's items and of the inserted ones."""
    queries = _some(random, real, COMPARED)
    every = np.concatenate([real, np.arange(domains.items + 1, len(vectors))])

    def shares(items: np.ndarray, among: np.ndarray) -> np.ndarray:
        foreign = np.zeros(len(items))
        for start in range(0, len(items), CHUNK):
            rows = items[start : start + CHUNK]
            cosines = vectors[rows] @ vectors[among].T
            cosines[rows[:, None] == among] = -np.inf
            nearest = np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
            foreign[start : start + CHUNK] = (domain_of[among[nearest]] != domain_of[rows, None]).mean(1)
        of = domain_of[items]
        counts = np.bincount(of, minlength=len(domains))
        with np.errstate(invalid="ignore"):
            return np.bincount(of, foreign, minlength=len(domains)) / counts

    before = shares(queries, real)
    return Neighbours(
        before, before if len(every) == len(real) else shares(queries, every), shares(inserted, every)
    )
