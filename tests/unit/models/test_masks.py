"""No model sees the future, padding changes nothing, and neither does the order of a batch."""

import numpy as np
import pytest
import torch
from toy import KINDS, batch_of, domains_of_size, model_of, sequences, text_table

DOMAINS = domains_of_size(6, 5)
ROWS = sequences([1, 7, 3, 8, 2, 9, 4], [7, 8, 9], [1, 2], [10, 5, 11, 6, 3])


@pytest.fixture(params=KINDS)
def model(request):
    table = text_table(DOMAINS, ROWS, without_text=(2, 9))
    return model_of(request.param, table), table


def test_a_later_item_changes_no_earlier_state(model):
    model, table = model
    before = batch_of(table, ROWS)
    with torch.no_grad():
        expected = model.encode_positions(before)
        for changed in range(1, 7):
            items = ROWS.items.copy()
            items[changed:7] = [6, 11, 1, 10, 5, 7][: 7 - changed]
            after = batch_of(table, sequences(items[:7].tolist(), [7, 8, 9], [1, 2], [10, 5, 11, 6, 3]))
            # The domain asked for at each position is given, not looked up: it must stay what it was.
            after = type(after)(after.rows, after.items, after.lengths, after.targets, before.domains)
            found = model.encode_positions(after)
            torch.testing.assert_close(found[0, :changed], expected[0, :changed], atol=1e-6, rtol=1e-5)
            assert not torch.allclose(found[0, changed], expected[0, changed], atol=1e-4)


def test_a_state_depends_on_the_domain_that_is_asked_for_and_on_no_other(model):
    model, table = model
    batch = batch_of(table, ROWS)
    other = type(batch)(batch.rows, batch.items, batch.lengths, batch.targets, batch.domains.clone())
    other.domains[:, 3] = 1 - other.domains[:, 3]
    with torch.no_grad():
        found, expected = model.encode_positions(other), model.encode_positions(batch)
    places = [0, 1, 2, 4, 5, 6]
    torch.testing.assert_close(found[0, places], expected[0, places])


def test_the_state_at_the_end_is_that_of_the_last_position(model):
    model, table = model
    rows = torch.arange(len(ROWS))
    for domain in range(2):
        asked = torch.full((len(ROWS),), domain)
        from edt_cli.models.batch import DeviceSequences

        batch = DeviceSequences(ROWS, table, 12).batch(rows, asked)
        with torch.no_grad():
            every, last = model.encode_positions(batch), model.encode_last(batch)
        torch.testing.assert_close(last, every[rows, batch.lengths - 1], atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing(model):
    model, table = model
    with torch.no_grad():
        together = model.encode_positions(batch_of(table, ROWS))
        for row, length in enumerate(ROWS.lengths):
            alone = model.encode_positions(batch_of(table, ROWS, which=[row]))
            assert alone.shape[1] == length
            torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=1e-4)


def test_the_order_of_a_batch_changes_nothing(model):
    model, table = model
    with torch.no_grad():
        expected = model.encode_positions(batch_of(table, ROWS))
        found = model.encode_positions(batch_of(table, ROWS, which=[3, 1, 0, 2]))
    torch.testing.assert_close(found, expected[[3, 1, 0, 2]], atol=1e-6, rtol=1e-5)


def test_a_row_without_items_has_a_state_of_zero(model):
    model, table = model
    rows = sequences([], [7, 8])
    from edt_cli.models.batch import DeviceSequences

    batch = DeviceSequences(rows, table, 12).batch(torch.arange(2), torch.tensor([0, 1]))
    with torch.no_grad():
        states = model.encode_last(batch)
    assert states.isfinite().all()
    assert (states[0] == 0).all()
    assert (states[1] != 0).any()


def test_only_the_newest_items_count_beyond_the_longest_length(model):
    model, table = model
    long = sequences(list(np.tile([1, 7, 3], 8)))
    short = sequences(list(np.tile([1, 7, 3], 4)))
    with torch.no_grad():
        found = model.encode_positions(batch_of(table, long))
        expected = model.encode_positions(batch_of(table, short))
    torch.testing.assert_close(found, expected)
