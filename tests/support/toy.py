"""Small datasets, tables and models for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from edt_cli.config import DataSettings, ModelSettings, TrainingSettings
from edt_cli.data.assemble import assemble
from edt_cli.data.dataset import Dataset, Domains, Sequences, TrainingView
from edt_cli.data.saved import data_key, save
from edt_cli.models.batch import DeviceSequences, ItemTable, item_table
from edt_cli.models.inputs import GeneratedItems, ModelInputs
from edt_cli.models.systems import make_model, needs, options_of, system
from edt_cli.workspace.layout import Workspace

PLAIN = DataSettings(window=None, k_core=None, ties="file")


def dataset(
    histories: dict[str, list[str]],
    titles: dict[str, str | None] | None = None,
    apart: int = 86_400,
    **settings: object,
) -> Dataset:
    """Items are written `a1`, `b2`: the letter is the domain. A step takes `apart` seconds."""
    domains = sorted({item[0] for items in histories.values() for item in items})
    rows = [
        {"user": user, "item": item, "time": 1000 + apart * step}
        for user, items in histories.items()
        for step, item in enumerate(items)
    ]
    names = sorted({row["item"] for row in rows})
    titles = titles if titles is not None else {name: f"thing {name}" for name in names}
    catalogue = pl.DataFrame(
        {
            "item": names,
            "domain": [domains.index(name[0]) for name in names],
            "title": [titles.get(name) for name in names],
        },
        schema={"item": pl.String, "domain": pl.Int64, "title": pl.String},
    )
    return assemble(pl.DataFrame(rows), catalogue, domains, PLAIN.model_copy(update=settings))


def prepared(root: Path, made: Dataset) -> Workspace:
    """A workspace that has a dataset under the name `tiny`."""
    workspace = Workspace(root)
    with workspace.dataset("tiny").create(source=[], synthetic=True) as (folder, manifest):
        saved = save(made, folder)
        counts = {"users": len(made.user_ids), "interactions": len(made.sequences.items)}
        manifest |= saved | counts | {"data_key": data_key(saved, made.settings)}
    return workspace


def random_dataset(users: int = 40, items: int = 12, domains: str = "ab", seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    names = [f"{domain}{number}" for domain in domains for number in range(items)]
    return dataset({f"u{user:03d}": list(rng.choice(names, size=rng.integers(3, 12))) for user in range(users)})


def domains_of_size(*sizes: int) -> Domains:
    return Domains(tuple("abcdef"[: len(sizes)]), np.concatenate([[1], 1 + np.cumsum(sizes)]))


def sequences(*rows: list[int]) -> Sequences:
    return Sequences(
        np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        np.array([item for row in rows for item in row], dtype=np.int64),
    )


def text_table(domains: Domains, rows: Sequences, width: int = 6, without_text: tuple[int, ...] = ()) -> ItemTable:
    """Random unit text vectors; items in `without_text` have none."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(domains.items + 1, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[0, *without_text]] = 0
    return item_table(domains, rows, vectors=vectors)


def random_sequences(domains: Domains, rows: int = 6, length: int = 7) -> Sequences:
    rng = np.random.default_rng(3)
    return sequences(*(rng.integers(1, domains.items + 1, length).tolist() for _ in range(rows)))


def view_of(domains: Domains, prefixes: Sequences) -> TrainingView:
    titles = [
        f"{'olive' if item % 3 else 'walnut'} {'press' if item % 2 else 'grinder'}" for item in range(domains.items)
    ]
    return TrainingView("toy", "toy", domains, [], prefixes, pl.DataFrame({"title": titles}))


def generated_items(domains: Domains, rows: Sequences, text: torch.Tensor) -> GeneratedItems:
    """Three for each row in its minority domain, not far from random items of it."""
    rng = np.random.default_rng(5)
    users = np.repeat(np.flatnonzero(rows.lengths > 0), 3)
    targets = rows.domain_counts(domains).argmin(1)[users]
    chosen = np.array([rng.choice(domains.range(target)) for target in targets])
    near = text.numpy()[chosen] + 0.1 * rng.normal(size=(len(chosen), text.shape[1])).astype(np.float32)
    vectors = np.concatenate([np.zeros((1, text.shape[1]), np.float32), near])
    return GeneratedItems.of(users, targets, 1 + np.arange(len(chosen)), vectors)


SMALL = {"hidden": 8, "blocks": 1, "heads": 2, "dropout": 0.0, "max_length": 12}

KINDS = {
    "sasrec": {"name": "sasrec", "backbone": "sasrec", "encoder": "id"},
    "gru4rec": {"name": "gru4rec", "backbone": "gru4rec", "encoder": "id"},
    "bert4rec": {"name": "bert4rec", "backbone": "bert4rec", "encoder": "id"},
    "syncrec": {"name": "syncrec", "encoder": "id"},
    "syncrec with partitioned gates": {"name": "syncrec", "encoder": "id", "gate": "partitioned"},
    "text and id": {"name": "sasrec", "backbone": "sasrec", "encoder": "both"},
    "c2dsr": {"name": "c2dsr", "encoder": "id"},
    "c2dsr with a deep graph": {"name": "c2dsr", "encoder": "id", "graph_layers": 2},
    "tricdr": {"name": "tricdr", "encoder": "id"},
    "llmcdsr": {"name": "llmcdsr", "backbone": "sasrec", "encoder": "id", "recalled": 2, "noisy": 4},
    "llmcdsr on gru4rec": {"name": "llmcdsr", "backbone": "gru4rec", "encoder": "id", "virtual": "sgd"},
    "llm-esr": {"name": "llm-esr", "encoder": "llm"},
    "llm-esr on gru4rec": {"name": "llm-esr", "backbone": "gru4rec", "encoder": "llm", "distance": "contrastive"},
    "llm4cdsr": {"name": "llm4cdsr", "encoder": "llm"},
    "llm4cdsr on gru4rec": {"name": "llm4cdsr", "backbone": "gru4rec", "encoder": "llm", "contrast": "soft"},
    "llm4cdsr on bert4rec": {"name": "llm4cdsr", "backbone": "bert4rec", "encoder": "llm"},
    "llm-edt": {"name": "llm-edt", "backbone": "sasrec", "encoder": "llm"},
    "llm-edt with a memory": {
        "name": "llm-edt",
        "backbone": "sasrec",
        "encoder": "both",
        "memory": True,
        "memory_period": 1,
    },
    "llm-edt with joint threads": {
        "name": "llm-edt",
        "backbone": "sasrec",
        "encoder": "both",
        "id_shrinkage": 2.0,
        "threads": "joint",
    },
    "llm-edt started from its text": {
        "name": "llm-edt",
        "backbone": "sasrec",
        "encoder": "llm",
        "item_std": 0.1,
        "text_length": 1.0,
        "text_start": "principal",
        "zero_start": True,
    },
    "llm-edt on gru4rec": {"name": "llm-edt", "backbone": "gru4rec", "encoder": "llm"},
    "llm-edt on bert4rec": {"name": "llm-edt", "backbone": "bert4rec", "encoder": "llm"},
    "abxi": {"name": "abxi", "encoder": "id"},
}
"""Every model, and LLM-EDT on every backbone."""


def model_settings(kind: str, **settings: object) -> tuple[ModelSettings, dict[str, object]]:
    """Of a small model, and the options that its system has to itself."""
    of_system = {"adapter": 4} if KINDS[kind]["name"] == "llm-edt" else {}
    values = {**SMALL, **of_system, **KINDS[kind], **settings}
    own = {name: value for name, value in values.items() if name not in ModelSettings.model_fields}
    return ModelSettings(**{name: value for name, value in values.items() if name not in own}), own


def model_of(kind: str, table: ItemTable, seed: int = 0, **settings: object):
    """A model with random weights, its threads (if it has them) fine-tuned to something that is not zero."""
    torch.manual_seed(seed)
    chosen, own = model_settings(kind, **settings)
    rows = random_sequences(table.domains)
    profiles = None
    if table.text is not None:
        profiles = torch.nn.functional.normalize(torch.randn(len(rows), table.text.shape[1]))
    given = ModelInputs(
        table,
        chosen,
        TrainingSettings(),
        options_of(chosen.name, own),
        rows,
        view_of(table.domains, rows),
        profiles if "user profiles" in needs(chosen) else None,
        None if system(chosen.name).augmented else generated_items(table.domains, rows, table.text),
    )
    model = make_model(given)
    for phase in model.phases(given):
        if phase.name != "fine-tuning":
            phase.enter()
    if chosen.name == "llm-edt":
        model.fine_tuned = True
        for adapter in model.threads.adapters:
            torch.nn.init.normal_(adapter.outer.weight)
    return model.eval()


def batch_of(table: ItemTable, rows: Sequences, max_length: int = 12, which: list[int] | None = None):
    on_device = DeviceSequences(rows, table, max_length)
    return on_device.batch(torch.arange(len(rows)) if which is None else torch.tensor(which))
