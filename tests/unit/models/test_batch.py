"""What a batch asks for: the next item at each position, unless somebody only thought of it."""

import numpy as np
import pytest
import torch
from toy import domains_of_size, sequences, text_table

from edt_cli.models.batch import DeviceSequences

ROWS = sequences([1, 7, 2, 8, 3], [4], [], [9, 5, 10])
INSERTED = np.array([False, True, False, True, True, False, True, False, False])


@pytest.mark.parametrize("longest", [2, 3, 12])
def test_an_inserted_item_stands_in_its_row_and_is_no_target(longest):
    table = text_table(domains_of_size(6, 6), ROWS)
    everybody = torch.arange(len(ROWS))
    plain = DeviceSequences(ROWS, table, longest)
    marked = DeviceSequences(ROWS, table, longest, INSERTED)
    batch, before = marked.batch(everybody), plain.batch(everybody)
    assert batch.items.equal(before.items)
    starts = ROWS.offsets[1:] - np.minimum(ROWS.lengths, longest)
    for row, (start, stop) in enumerate(zip(starts, ROWS.offsets[1:], strict=True)):
        expected = [0 if INSERTED[place] else int(ROWS.items[place]) for place in range(start + 1, stop)]
        assert batch.targets[row].tolist() == expected + [0] * (batch.targets.shape[1] - len(expected))
        assert batch.inserted[row, : stop - start].tolist() == INSERTED[start:stop].tolist()
    for rows, made in ((marked, batch), (plain, before)):
        assert rows.targets().equal((made.targets > 0).sum(1))
