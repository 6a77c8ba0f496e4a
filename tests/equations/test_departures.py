"""Departures of the released code: each is what it says, and the model that sees the future is found to see it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from slow import attention
from toy import batch_of, domains_of_size, model_of, sequences, text_table, view_of

from edt_cli.audit.leaks import check_future
from edt_cli.config import Settings, UsageError
from edt_cli.models.batch import DeviceSequences
from edt_cli.models.departures import ResidualAdapter
from edt_cli.models.fine_tuning import FrozenQueries
from edt_cli.models.systems import checked
from edt_cli.models.threads import DomainThreads

DOMAINS = domains_of_size(6, 5)
ROWS = sequences([1, 7, 3, 8, 2, 9, 4], [7, 8, 9], [1, 2], [10, 5, 11, 6, 3])
TABLE = text_table(DOMAINS, ROWS)


def model(**options: object):
    return model_of("llm-edt", TABLE, **options)


def test_without_the_causal_mask_every_position_attends_to_all_items_and_to_no_padding():
    with torch.no_grad():
        backbone = model(sees_future=True).backbone
        x, lengths = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 3])
        found, last = backbone.encode(x, lengths), backbone.encode_last(x, lengths)
        (block,) = backbone.blocks
        for row, length in enumerate(lengths.tolist()):
            own = x[row, :length]
            states = own + attention(block.attention, block.norm_attention(own), lambda _, n=length: range(n))
            expected = backbone.norm(states + block.feedforward(block.norm_feedforward(states)))
            torch.testing.assert_close(found[row, :length], expected, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(last[row], expected[-1], atol=1e-5, rtol=1e-4)
        assert backbone.encode_last(x, torch.tensor([0, 2]))[0].abs().sum() == 0


@pytest.mark.parametrize("sees_future", [False, True])
def test_the_audit_finds_out_on_the_weights_who_sees_the_future(sees_future):
    data = SimpleNamespace(sequences=ROWS, table=TABLE, device=torch.device("cpu"), view=view_of(DOMAINS, ROWS))
    found = check_future(model(sees_future=sees_future), data)  # type: ignore[arg-type]
    assert found.passed is not sees_future
    assert ("in training the model sees its own targets" in found.said) == sees_future


def test_whoever_sees_the_future_in_training_ranks_by_the_history_alone():
    """What comes after a history is not in the batch, so it cannot be seen."""
    trained = model(sees_future=True)
    inputs, domains = sequences([1, 7, 3], [7, 8]), np.array([0, 1])
    whole = sequences([1, 7, 3, 8, 2], [7, 8, 9])
    alone = trained.scorer(inputs, domains).scores(torch.arange(2), 0)
    cut = trained.scorer(whole.prefixes(np.array([3, 2])), domains).scores(torch.arange(2), 0)
    torch.testing.assert_close(alone, cut)


def test_relu_and_a_residual_in_the_adapters():
    torch.manual_seed(0)
    adapter, e = ResidualAdapter(3, 2, 3).double(), torch.randn(50, 3, dtype=torch.float64)
    for row in range(50):
        inner = [max(0.0, float(adapter.inner.weight[k] @ e[row] + adapter.inner.bias[k])) for k in range(2)]
        expected = e[row] + adapter.outer.weight @ torch.tensor(inner, dtype=torch.float64) + adapter.outer.bias
        torch.testing.assert_close(adapter(e)[row], expected)
    threads, states = DomainThreads(2, 3, 2, ResidualAdapter), torch.randn(4, 3)
    present, domains = torch.tensor([True, False, True, True]), torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        found = threads(states, present, domains)
    torch.testing.assert_close(found, states * present[:, None])


def test_the_domain_term_without_the_global_one():
    """Of eq. 11 only u^d is left, in training positions, after a history, and in what fine-tuning validates by."""
    both, alone = model(), model(global_term=False)
    alone.load_state_dict(both.state_dict())
    batch = batch_of(TABLE, ROWS)
    with torch.no_grad():
        u = both.backbone(both.encode_items(batch.items), batch.lengths)
        torch.testing.assert_close(
            alone.encode_positions(batch), both.encode_positions(batch) - u, atol=1e-5, rtol=1e-4
        )
        domains = np.array([0, 1, 0, 1])
        queries = DeviceSequences(ROWS, TABLE, 12).batch(torch.arange(4), torch.from_numpy(domains))
        last = both.encode_last(queries) - both.backbone.last(both.encode_items(queries.items), queries.lengths)
        torch.testing.assert_close(alone.encode_last(queries), last, atol=1e-5, rtol=1e-4)
        frozen = FrozenQueries.of(alone, ROWS, domains).scorer(alone).scores(torch.arange(4), 0)
        torch.testing.assert_close(frozen, alone.scorer(ROWS, domains).scores(torch.arange(4), 0))
        alone.fine_tuned = False
        torch.testing.assert_close(alone.encode_positions(batch), u)


@pytest.mark.parametrize(
    ("options", "sections", "says"),
    [
        ({"sees_future": True}, {"model": {"backbone": "gru4rec"}}, "backbone = sasrec"),
        ({"global_term": False, "finetune": False}, {}, "options.finetune"),
        ({"unsound": "split-after-augmentation"}, {"training": {"train_on": "all"}}, "--final"),
        ({"unsound": "everything"}, {}, "unsound"),
    ],
)
def test_what_does_not_go_together_is_said(options, sections, says):
    with pytest.raises(UsageError, match=says):
        checked(Settings().changed(options=options, **sections))
