"""Export of a run for other programs: its user encoder as ONNX, its item vectors as safetensors, a manifest."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save

from edt_cli.config import UserError
from edt_cli.data.dataset import Sequences
from edt_cli.evaluation.candidates import chunks
from edt_cli.inference.encoder_graph import UserEncoder
from edt_cli.inference.export import write_items
from edt_cli.inference.memory_tables import memory_facts, memory_scores, memory_tables
from edt_cli.inference.recommend import known_users
from edt_cli.models.batch import DeviceSequences, only_domain
from edt_cli.models.kernels import torch_alone
from edt_cli.models.memory import Memory
from edt_cli.models.scorers import InnerProduct, SideScored
from edt_cli.models.sequential import SequentialModel
from edt_cli.training.data import TrainingData
from edt_cli.workspace.files import explained, write_atomic
from edt_cli.workspace.layout import write_json
from edt_cli.workspace.runs import Run

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ENCODER = "user_encoder.onnx"
MANIFEST = "encoder.json"
MEMORY = "memory.safetensors"
CHECKED = 2000
"""Most users that an export is checked by."""
ROWS = 256
"""Users encoded at once."""
TOP = 10
FAR = 1e-3
"""Largest difference of a vector that is taken for rounding, relative to the largest number of the vectors."""


def export_onnx(training_data: TrainingData, run: Run, model: SequentialModel, folder: Path) -> dict[str, Any]:
    """Write a user encoder and item vectors, and check them against the model by onnxruntime.

    The files are user_encoder.onnx with its weights beside it, encoder.json, those of `write_items`, and
    memory.safetensors of a model with a memory.

    Returns:
        The manifest, which is encoder.json.

    Raises:
        UserError: If there is no graph for this kind of model, or the graph and the model disagree.
    """
    encoder = UserEncoder(model)
    items = write_items(training_data, run, model, folder)
    with explained(folder / ENCODER):
        write_encoder(encoder, folder / ENCODER, model.context_length)
    memory = _write_memory(model, folder / MEMORY)
    agreement = _agreement(training_data, model, folder, memory)
    if agreement.difference > FAR:
        raise UserError(
            f"the vectors of {ENCODER} differ from those of {run.name} by {agreement.difference:.2g} of their "
            "largest number: please report it, with the versions that edt doctor --json tells"
        )
    names = training_data.dataset.domains.names
    manifest = {
        **{name: items[name] for name in ("run", "data", "data_key", "dimension", "made", "edt")},
        "encoder": ENCODER,
        "inputs": {
            "items": "int64 [users, length]: rows of items.parquet plus 1, oldest first, 0 after the last",
            "domains": "int64 [users]: the number of the domain that is asked for",
        },
        "output": "vectors: float32 [users, dimension]; its product with a row of items.safetensors is a score",
        "domains": dict(zip(names, range(len(names)), strict=True)),
        "longest": model.context_length,
        "reads": "items of the domain that is asked for" if model.settings.sequence == "single" else "all items",
        **({} if memory is None else {"memory": {"file": MEMORY, **memory}}),
        "checked": agreement._asdict(),
    }
    write_json(folder / MANIFEST, manifest)
    return {**manifest, "folder": str(folder)}


def _write_memory(model: SequentialModel, path: Path) -> dict[str, Any] | None:
    """Write the tables of a model's memory and return what the manifest says of them; None if it has none."""
    memory = model.side_score
    if memory is None:
        return None
    assert isinstance(memory, Memory)
    write_atomic(path, save(memory_tables(memory)))
    return memory_facts(memory)


def write_encoder(encoder: UserEncoder, path: Path, longest: int) -> None:
    """Write an encoder as ONNX, for any number of users and histories of up to `longest` items."""
    users, length = torch.export.Dim("users"), torch.export.Dim("length", max=max(2, longest))
    # At least two of each: a size of one would be taken for fixed.
    example = (torch.ones(2, 2, dtype=torch.long), torch.zeros(2, dtype=torch.long))
    with torch.no_grad(), torch_alone(), _quietly():
        torch.onnx.export(
            encoder,
            example,
            str(path),
            input_names=["items", "domains"],
            output_names=["vectors"],
            dynamic_shapes=({0: users, 1: length}, {0: users}),
            dynamo=True,
            external_data=True,
            verbose=False,
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence what the exporter says of its own steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Agreement(NamedTuple):
    """How near the exported encoder is to the model.

    Attributes:
        users: How many users were asked for, in every domain.
        same_top_10: Share of their lists of ten that are the same, item by item.
        difference: Largest difference of a vector's number, relative to the largest number.
    """

    users: int
    same_top_10: float
    difference: float


class EncoderSession:
    """The exported encoder, run by onnxruntime."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session: InferenceSession = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def vectors(self, items: np.ndarray, domains: np.ndarray) -> np.ndarray:
        """Return the vectors [B, D] of padded histories [B, L] in the domains [B]."""
        out: np.ndarray = self.session.run(["vectors"], {"items": items, "domains": domains})[0]
        return out


def _agreement(
    training_data: TrainingData, model: SequentialModel, folder: Path, memory: dict[str, Any] | None
) -> Agreement:
    """Compare the scores by what was written with those of the model, over the first users with a history."""
    users, session = known_users(training_data), EncoderSession(folder / ENCODER)
    tables = load_file(folder / MEMORY) if memory is not None else {}
    rows = np.flatnonzero(users.inputs.lengths)[:CHECKED]
    domains, vectors = training_data.dataset.domains, model.item_vectors()
    same, lists, far, largest = 0, 0, 0.0, 1e-12
    for domain in range(len(domains)):
        of_domain = vectors[domains.range(domain).start : domains.range(domain).stop]
        top = min(TOP, len(of_domain))
        for part in chunks(rows, ROWS):
            histories, queried = users.inputs.rows(part), np.full(len(part), domain)
            scorer = model.scorer(histories, queried)
            inner = scorer.vectors if isinstance(scorer, SideScored) else scorer
            assert isinstance(inner, InnerProduct)
            ours, items = inner.states, padded(model, histories, queried)
            theirs = torch.from_numpy(session.vectors(items, queried))
            far, largest = max(far, float((ours - theirs).abs().max())), max(largest, float(ours.abs().max()))
            scores = theirs @ of_domain.T
            if memory is not None:
                newest = _newest_times(histories)
                for row, time in enumerate(newest):
                    known = items[row][items[row] > 0]
                    scores[row] += torch.from_numpy(memory_scores(tables, memory, known, domain, time))
            best = scorer.scores(torch.arange(len(part)), domain).topk(top).indices
            same, lists = same + int((scores.topk(top).indices == best).all(1).sum()), lists + len(part)
    return Agreement(users=len(rows), same_top_10=same / max(1, lists), difference=far / largest)


def _newest_times(histories: Sequences) -> list[int | None]:
    """Return the time of the newest item of each history, none of which is empty; None if times are unknown."""
    times = histories.times
    return [None] * len(histories) if times is None else times[histories.offsets[1:] - 1].tolist()


def padded(model: SequentialModel, histories: Sequences, domains: np.ndarray) -> np.ndarray:
    """Return the items that a model reads of histories, padded on the right, long [B, L]."""
    if model.settings.sequence == "single":
        histories = only_domain(histories, domains, model.domain_of.cpu().numpy())
    read = DeviceSequences(histories, model.table, model.context_length)
    rows = torch.arange(len(histories), device=read.lengths.device)
    return read.batch(rows).items.cpu().numpy()
