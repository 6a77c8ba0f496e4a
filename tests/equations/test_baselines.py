"""BERT4Rec, GRU4Rec and their losses against slow float64 versions that one can read off the papers."""

import math

import pytest
import torch
from slow import gelu, post_norm_block
from toy import batch_of, domains_of_size, model_of, sequences, text_table

from edt_cli.config import TrainingSettings
from edt_cli.models.losses import bpr_max, top1
from edt_cli.models.objective import Negatives, NextItem

DOMAINS = domains_of_size(6, 5)
ROWS = sequences([1, 7, 3, 8, 2, 9, 4], [7, 8, 9], [1, 2], [10, 5, 11, 6, 3])
TABLE = text_table(DOMAINS, ROWS)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def scores(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=made, dtype=torch.float64) for shape in ((4, 3), (4, 3), (4, 5, 3)))


def test_top1_of_gru4rec():
    states, positive, negative = scores()
    for j, found in enumerate(top1(states, positive, negative)):
        own, others = float(states[j] @ positive[j]), (negative[j] @ states[j]).tolist()
        expected = sum(sigmoid(other - own) + sigmoid(other**2) for other in others) / 5
        assert found.item() == pytest.approx(expected, rel=1e-12)


def test_bpr_max_of_gru4rec():
    states, positive, negative = scores()
    for j, found in enumerate(bpr_max(states, positive, negative)):
        own, others = float(states[j] @ positive[j]), (negative[j] @ states[j]).tolist()
        total = sum(math.exp(other) for other in others)
        expected = -math.log(sum(math.exp(other) / total * sigmoid(own - other) for other in others))
        assert found.item() == pytest.approx(expected, rel=1e-12)


def test_gru4rec_step_by_step():
    """h = z h + (1 - z) tanh(W x + b + r (U h + c)): z stands for the paper's 1 - z, and r is applied after U."""
    model = model_of("gru4rec", TABLE).double()
    batch, gru = batch_of(TABLE, ROWS), model.backbone.gru
    with torch.no_grad():
        found = model.encode_positions(batch)
        for row in range(len(ROWS)):
            h = torch.zeros(8, dtype=torch.float64)
            for step, item in enumerate(ROWS.of(row).tolist()):
                of_x = gru.weight_ih_l0 @ model.encoder(torch.tensor(item)) + gru.bias_ih_l0
                of_h = gru.weight_hh_l0 @ h + gru.bias_hh_l0
                r, z = torch.sigmoid(of_x[:8] + of_h[:8]), torch.sigmoid(of_x[8:16] + of_h[8:16])
                h = z * h + (1 - z) * torch.tanh(of_x[16:] + r * of_h[16:])
                expected = model.backbone.out.weight @ h + model.backbone.out.bias
                torch.testing.assert_close(found[row, step, :8], expected)
                assert found[row, step, 8] == 1


@pytest.mark.parametrize("kind", ["gru4rec", "bert4rec"])
def test_a_score_has_the_bias_of_its_item(kind):
    model = model_of(kind, TABLE)
    batch = batch_of(TABLE, ROWS)
    with torch.no_grad():
        items, states = model.encode_items(torch.arange(12)), model.encode_last(batch)
        expected = states[:, :8] @ model.encoder(torch.arange(12)).T + model.bias(torch.arange(12)).T
    assert items.shape[1] == model.width == 9
    torch.testing.assert_close(states @ items.T, expected)
    seen = TABLE.seen.nonzero().flatten()
    assert len(model.bias(seen).unique()) == len(seen)


@pytest.fixture
def bert():
    made = model_of("bert4rec", TABLE, blocks=2).double()
    for name, weight in made.named_parameters():
        if "norm" not in name and "out.2" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    return made


def restored(model, items: list[int], masked: set[int]) -> torch.Tensor:
    """BERT4Rec, eq. 1-7 up to E^T: [L, D], every position sees every other; the place counts from the end."""
    b = model.backbone
    x = [b.mask_token if i in masked else model.encoder(torch.tensor(item)) for i, item in enumerate(items)]
    x = torch.stack([b.norm(one + b.positions.weight[len(items) - 1 - i]) for i, one in enumerate(x)])
    for block in b.blocks:
        x = post_norm_block(block, x, lambda _: range(len(items)))
    return torch.stack([b.out[2](gelu(b.out[0].weight @ one + b.out[0].bias)) for one in x])


def test_bert4rec_restores_masked_items(bert):
    batch = batch_of(TABLE, ROWS)
    masked = torch.zeros_like(batch.items, dtype=torch.bool)
    masked[0, [1, 6]] = masked[1, 0] = masked[3, 4] = True
    with torch.no_grad():
        found = bert.backbone.restore(bert.encoder(batch.items), batch.lengths, masked)
        for row in range(len(ROWS)):
            items = ROWS.of(row).tolist()
            expected = restored(bert, items, set(masked[row].nonzero().flatten().tolist()))
            torch.testing.assert_close(found[row, : len(items)], expected)


def test_bert4rec_is_asked_by_a_mask_after_the_last_item(bert):
    batch = batch_of(TABLE, ROWS)
    with torch.no_grad():
        quick = bert.encode_last(batch)
        in_training = bert.train().encode_last(batch)
        for row in range(len(ROWS)):
            items = ROWS.of(row).tolist()
            expected = restored(bert, [*items, 0], {len(items)})[-1]
            torch.testing.assert_close(quick[row, :8], expected)
            torch.testing.assert_close(in_training[row, :8], expected)


def test_bert4rec_masks_a_share_and_in_one_row_of_eleven_the_last_item_alone():
    model = model_of("bert4rec", TABLE, mask_share=0.4)
    rows = sequences(*([1, 7, 3, 8, 2, 9, 4, 5] for _ in range(20_000)), [1, 2])
    batch = batch_of(TABLE, rows)
    torch.manual_seed(0)
    masked = model._mask(batch)
    assert not masked[batch.items == 0].any()
    assert masked.any(1).all()
    alone = 0.6**7 * 0.4 + 0.6**8  # by chance
    only_last = (masked[:-1, -1] & (masked[:-1].sum(1) == 1)).float().mean()
    assert only_last.item() == pytest.approx(1 / 11 + 10 / 11 * alone, abs=0.01)
    assert masked[:-1, 2].float().mean().item() == pytest.approx(10 / 11 * 0.4, abs=0.01)


def test_bert4rec_learns_from_the_masked_positions(bert):
    batch = batch_of(TABLE, ROWS)
    torch.manual_seed(0)
    at = bert.positions_to_learn(batch)
    torch.manual_seed(0)
    masked = bert._mask(batch)
    assert at.targets.tolist() == batch.items[masked].tolist()
    torch.testing.assert_close(at.positive, bert.encode_items(at.targets))
    objective = NextItem(TrainingSettings(), Negatives.over(TABLE, torch.Generator().manual_seed(0)))
    assert bert.loss(batch, objective)["next_item"].isfinite()
