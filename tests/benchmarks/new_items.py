"""What it costs that an item has no training: NDCG@10 of held-out items as if they were new.

    python tests/benchmarks/new_items.py --data demo --presets llm-edt-ce best
    python tests/benchmarks/new_items.py --data demo --epochs 2 --share 0.2

A share of the items is drawn. A second dataset, NAME-without, lacks every interaction with them before the targets
of validation and test, and is else the same: same users, targets and candidates. Each preset is trained on both. Of
the targets that are drawn items, a model of the second dataset has seen nothing but texts. Datasets and runs stay
in the workspace (EDT_WORKSPACE), so that an interrupted measurement goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np
import polars as pl

from edt_cli.api.session import TrainedRun, load_data, settings, train
from edt_cli.config import load_settings
from edt_cli.data.dataset import Dataset, Sequences
from edt_cli.data.open import is_synthetic
from edt_cli.data.saved import data_key, save
from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.workspace.layout import Workspace

CONTENT = "content-knn"


def without(dataset: Dataset, drawn: np.ndarray) -> Dataset:
    """Return the dataset without what users did with the drawn items before their targets."""
    sequences, users = dataset.sequences, dataset.sequences.users
    position = np.arange(len(sequences.items)) - sequences.offsets[users]
    gone = np.isin(sequences.items, drawn) & (position < dataset.train_lengths[users])
    lost = np.bincount(users[gone], minlength=len(sequences))
    assert sequences.times is not None
    return replace(
        dataset,
        sequences=Sequences(
            np.concatenate([[0], np.cumsum(sequences.lengths - lost)]),
            sequences.items[~gone],
            sequences.times[~gone],
        ),
        train_lengths=dataset.train_lengths - lost,
        target_positions={
            split: np.where(positions >= 0, positions - lost, -1)
            for split, positions in dataset.target_positions.items()
        },
    )


def prepared(workspace: Workspace, dataset: Dataset, drawn: np.ndarray) -> Dataset:
    """Return the dataset without the drawn items, kept as NAME-without."""
    artefact = workspace.dataset(f"{dataset.name}-without")
    reduced = without(dataset, drawn)
    with artefact.create(source=[], synthetic=is_synthetic(workspace, dataset.name)) as (folder, manifest):
        saved = save(reduced, folder)
        counts = {"users": len(reduced.user_ids), "interactions": len(reduced.sequences.items)}
        manifest |= saved | counts | {"data_key": data_key(saved, reduced.settings)}
    return load_data(artefact.key)


def ranks(run: TrainedRun, dataset: Dataset, name: str) -> pl.DataFrame:
    """Return the rank of each test target, by user."""
    return run.ranks().select("user", "item", "domain", pl.col("rank").alias(name))


def report(dataset: Dataset, drawn: np.ndarray, preset: str, found: pl.DataFrame) -> None:
    """Print NDCG@10 of the drawn targets and of the others, by the model with them and without them."""
    is_drawn = found["item"].is_in(drawn.tolist())
    for number, domain in enumerate(dataset.domains.names):
        for label, mask in (("as if new", is_drawn), ("the others", ~is_drawn)):
            rows = found.filter(mask & (found["domain"] == number))
            cells = [f"{ranking_metrics(rows[name].to_numpy())['ndcg@10']:.4f}" for name in found.columns[3:]]
            sys.stdout.write(f"{preset:12} {domain:10} {label:11} {len(rows):6} targets  {'  '.join(cells)}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--presets", nargs="+", default=["llm-edt-ce", "best"])
    parser.add_argument("--share", type=float, default=0.1, help="share of the items that are drawn")
    parser.add_argument("--seed", type=int, default=42, help="seed of the draw and of training")
    parser.add_argument("--epochs", type=int, help="most epochs of a phase")
    asked = parser.parse_args()
    workspace, dataset = Workspace.find(), load_data(asked.data)
    known = dataset.training_view().training_items
    count = round(asked.share * len(known))
    drawn = np.sort(np.random.default_rng(asked.seed).choice(known, count, replace=False))
    reduced = prepared(workspace, dataset, drawn)
    lost = len(dataset.sequences.items) - len(reduced.sequences.items)
    sys.stdout.write(f"{count:,} of {len(known):,} items drawn, with {lost:,} interactions\n")
    sys.stdout.write("columns: trained with the drawn items, trained without them\n")
    for preset in [CONTENT, *asked.presets]:
        training = {"seed": asked.seed} | ({"epochs": asked.epochs} if asked.epochs else {})
        chosen = settings(load_settings(preset).model.name, preset, training=training)
        tables = [
            ranks(train(data.name, chosen, device="cpu"), data, name)
            for name, data in (("with", dataset), ("without", reduced))
        ]
        report(dataset, drawn, preset, tables[0].join(tables[1], on=["user", "item", "domain"]))


if __name__ == "__main__":
    main()
