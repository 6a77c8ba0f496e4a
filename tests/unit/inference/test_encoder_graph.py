"""The graph of a user encoder gives the model's vectors, whatever the batch looks like, and so does its ONNX."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import KINDS, domains_of_size, model_of, random_sequences, text_table, view_of

from edt_cli.config import ModelSettings, UserError
from edt_cli.inference.encoder_graph import KINDS as CLASSES
from edt_cli.inference.encoder_graph import UserEncoder, selected
from edt_cli.inference.memory_tables import memory_facts, memory_scores, memory_tables
from edt_cli.inference.onnx_export import ENCODER, EncoderSession, write_encoder
from edt_cli.models.batch import Batch, DeviceSequences, last_state
from edt_cli.models.domain_sequences import domain_sequence
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.memory import Memory
from edt_cli.models.systems import model_class

DOMAINS = domains_of_size(5, 6)
ROWS = random_sequences(DOMAINS)
TABLE = text_table(DOMAINS, ROWS)
EXPORTED = [kind for kind, settings in KINDS.items() if model_class(settings["name"]) in CLASSES]


def histories(users: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random histories, an empty one and one of a single domain among them, and the domains that are queried."""
    generator = torch.Generator().manual_seed(users * length)
    items = torch.randint(1, 12, (users, length), generator=generator)
    lengths = torch.randint(1, length + 1, (users,), generator=generator)
    lengths[0] = 0
    items[-1].clamp_(max=5)
    return items * (torch.arange(length) < lengths[:, None]), torch.randint(0, 2, (users,), generator=generator)


def of_model(model, items: torch.Tensor, domains: torch.Tensor) -> torch.Tensor:
    batch = Batch(
        rows=torch.arange(len(items)),
        items=items,
        lengths=(items > 0).sum(1),
        targets=items,
        domains=domains[:, None].expand_as(items),
    )
    with torch.inference_mode():
        return model.encode_last(batch)


@pytest.mark.parametrize("kind", EXPORTED)
def test_the_graph_has_the_vectors_of_the_model(kind):
    model = model_of(kind, TABLE)
    encoder = UserEncoder(model)
    for shape in ((1, 1), (4, 3), (70, model.context_length)):
        items, domains = histories(*shape)
        with torch.inference_mode():
            found = encoder(items, domains)
        torch.testing.assert_close(found, of_model(model, items, domains), rtol=1e-4, atol=1e-5)


def test_selected_items_are_those_of_a_domain_sequence():
    items, domains = histories(20, 6)
    wanted, lengths, _ = domain_sequence(items, TABLE.domain_of, domains)
    found = selected(items, (TABLE.domain_of[items] == domains[:, None]) & (items > 0))
    assert torch.equal(found[:, : wanted.shape[1]], wanted) and not found[:, wanted.shape[1] :].any()
    assert torch.equal((found > 0).sum(1), lengths)


def test_onnx_has_both_threads_of_llm_edt_for_any_batch(tmp_path):
    model = model_of("llm-edt", TABLE)
    write_encoder(UserEncoder(model), tmp_path / ENCODER, model.context_length)
    session = EncoderSession(tmp_path / ENCODER)
    for shape in ((1, 1), (4, 3), (70, model.context_length)):
        items, domains = histories(*shape)
        found = torch.from_numpy(session.vectors(items.numpy(), domains.numpy()))
        torch.testing.assert_close(found, of_model(model, items, domains), rtol=1e-4, atol=1e-5)


def test_a_model_without_a_graph_says_which_have_one():
    with pytest.raises(UserError, match="abxi has no ONNX graph: sasrec, gru4rec, bert4rec and llm-edt have one"):
        UserEncoder(model_of("abxi", TABLE))


@pytest.mark.parametrize("period", [None, 10])
def test_the_memory_s_part_of_a_score_follows_from_its_tables(period):
    """With seasons and without, of histories longer and shorter than the window, and of an unknown time."""
    rows = replace(ROWS, times=86_400 * np.sort(np.random.default_rng(4).integers(100, 150, len(ROWS.items))))
    options = LLMEDTOptions(memory=True, memory_window=4, memory_neighbours=3, memory_period=period)
    memory = Memory(view_of(DOMAINS, rows), TABLE, ModelSettings(knn_window=3), options)
    torch.nn.init.uniform_(memory.weight, 0.1, 1.0, generator=torch.Generator().manual_seed(0))
    tables, facts = memory_tables(memory), memory_facts(memory)
    for length in (1, 3, 7):
        for times in (rows.times, None):
            histories = replace(rows, times=times)
            batch = DeviceSequences(histories, TABLE, length).batch(torch.arange(len(rows)))
            context = last_state(memory.context(batch), batch.lengths)
            for domain in (0, 1):
                wanted = memory.of_items(context, domain).detach().numpy()
                for row, items in enumerate(batch.items.numpy()):
                    newest = None if times is None else int(batch.times[row, batch.lengths[row] - 1])
                    found = memory_scores(tables, facts, items[items > 0], domain, newest)
                    np.testing.assert_allclose(found, wanted[row], rtol=1e-5, atol=1e-5)
