"""SyNCRec against slow versions that one can read off the paper: each task alone, its losses, the gap, SC-MIM."""

import math

import pytest
import torch
from slow import feedforward, post_norm_block
from toy import batch_of, domains_of_size, model_of, sequences, text_table

from edt_cli.config import TrainingSettings
from edt_cli.models.losses import bce
from edt_cli.models.objective import Negatives, NextItem
from edt_cli.models.syncrec import last_positions, sc_mim

DOMAINS = domains_of_size(4, 3, 4)
ROWS = sequences([1, 5, 3, 8, 2, 6, 9, 4], [5, 6, 7], [1, 2], [10, 5, 11, 6, 3])
TABLE = text_table(DOMAINS, ROWS)
DOMAIN = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]


@pytest.fixture(params=["syncrec", "syncrec with partitioned gates"])
def model(request):
    made = model_of(request.param, TABLE, blocks=2, single_experts=2, cross_experts=3).double()
    for name, weight in made.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    return made


def task_state(model, items: list[int], task: int) -> torch.Tensor:
    """One task's state after the last of `items`, which is all that it sees. A task is a domain, or 3: all."""
    n = len(items)
    e = model.encode_items(torch.tensor(items)) + model.types(torch.tensor([DOMAIN[i] for i in items]))
    x = model.norm(e + model.positions(torch.arange(n)))
    logits = (model.gate.logits.weight @ x.mean(0) + model.gate.logits.bias)[5 * task : 5 * task + 5]
    weights = torch.softmax(logits, 0)
    if model.gate.noise is not None:
        to_single = 0.4 if task == 3 else 0.6
        weights = torch.cat(
            [to_single * torch.softmax(logits[:2], 0), (1 - to_single) * torch.softmax(logits[2:], 0)]
        )
    mixed = sum(w * transformer(expert, x)[-1] for w, expert in zip(weights, model.experts, strict=True))
    return feedforward(model.towers[task], mixed)


def transformer(expert, x: torch.Tensor) -> torch.Tensor:
    for block in expert.blocks:
        x = post_norm_block(block, x, lambda i: range(i + 1))
    return x


def test_both_tasks_are_weighed_out_of_the_same_experts_over_what_each_sees(model):
    batch = batch_of(TABLE, ROWS)
    with torch.no_grad():
        cross, single = model.cross(batch), model.single(batch)
        for row in range(len(ROWS)):
            items = ROWS.of(row).tolist()
            for end, item in enumerate(items):
                own = [i for i in items[: end + 1] if DOMAIN[i] == DOMAIN[item]]
                torch.testing.assert_close(cross[row, end], task_state(model, items[: end + 1], 3))
                torch.testing.assert_close(single[row, end], task_state(model, own, DOMAIN[item]))


def fixed_objective(model):
    """BCE against one negative that follows from the target."""

    def objective(at, encode_items):
        return bce(at.states, at.positive, encode_items(at.targets % 11 + 1).unsqueeze(1))

    return objective


def test_losses_of_both_tasks_and_the_correction_by_the_gap(model):
    model.gap.copy_(torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64))
    terms = model.loss(batch_of(TABLE, ROWS), fixed_objective(model))
    weight = [math.exp(g) for g in (0.3, -0.2, 0.1)]
    singles, crosses = [], []
    with torch.no_grad():
        for row in range(len(ROWS)):
            items = ROWS.of(row).tolist()
            for end, target in enumerate(items[1:], start=1):
                domain = DOMAIN[target]
                states = {"cross": task_state(model, items[:end], 3)}
                own = [i for i in items[:end] if DOMAIN[i] == domain]
                if own:
                    states["single"] = task_state(model, own, domain)
                for task, state in states.items():
                    v, n = (model.encode_items(torch.tensor(i)) for i in (target, target % 11 + 1))
                    loss = -math.log(torch.sigmoid(state @ v)) - math.log(1 - torch.sigmoid(state @ n))
                    if task == "single":
                        singles.append(loss)
                    else:
                        crosses.append(3 * weight[domain] / sum(weight) * loss)
    assert terms["single"].item() == pytest.approx(sum(singles) / len(singles), rel=1e-9)
    assert terms["cross"].item() == pytest.approx(sum(crosses) / len(crosses), rel=1e-9)


def test_the_gap_is_a_moving_average_of_what_the_mixture_gains(model):
    gaps = torch.tensor([0.5, 0.1, -0.4], dtype=torch.float64)
    model._update_gap(torch.tensor([0, 0, 2]), gaps)
    third = 1 / 3
    expected = [0.9 * third + 0.1 * 0.3, third, 0.9 * third - 0.1 * 0.4]
    assert model.gap.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_gap_moves_in_training_alone(model):
    before = model.gap.clone()
    model.loss(batch_of(TABLE, ROWS), fixed_objective(model))
    assert torch.equal(model.gap, before)
    model.train().loss(batch_of(TABLE, ROWS), fixed_objective(model))
    assert not torch.equal(model.gap, before)


@pytest.mark.parametrize(("task", "taught"), [("single", {0, 1}), ("cross", {2, 3, 4})])
def test_each_task_teaches_its_own_experts_only(model, task, taught):
    getattr(model, task)(batch_of(TABLE, ROWS)).square().sum().backward()
    found = {k for k, e in enumerate(model.experts) if any(p.grad is not None for p in e.parameters())}
    assert found == taught
    assert model.encoder.weight.grad is not None


def test_sc_mim():
    made = torch.Generator().manual_seed(0)
    cross, single, other = (torch.randn(5, 4, generator=made, dtype=torch.float64) for _ in range(3))
    critic = torch.nn.Linear(4, 4).double()
    found = sc_mim(cross, single, other, critic)
    for p in range(5):
        asked = critic.weight @ cross[p] + critic.bias
        rho = [1 / (1 + math.exp(-float(asked @ one[p]))) for one in (single, other)]
        assert found[p].item() == pytest.approx(-math.log(1 / (1 + math.exp(rho[1] - rho[0]))), rel=1e-12)


def test_the_other_of_a_position_is_of_its_domain(model):
    batch = batch_of(TABLE, ROWS)
    numbered = torch.arange(batch.items.numel()).view(*batch.items.shape, 1)
    found = model._others(batch, numbered).flatten()
    real = batch.items[batch.items > 0]
    assert sorted(found.tolist()) == torch.nonzero(batch.items.flatten()).flatten().tolist()
    assert [DOMAIN[i] for i in batch.items.flatten()[found].tolist()] == [DOMAIN[i] for i in real.tolist()]


def test_the_last_place_of_the_domain_asked_for():
    batch = batch_of(TABLE, ROWS)
    found = last_positions(batch, TABLE.domain_of, 3)
    for row in range(len(ROWS)):
        items = ROWS.of(row).tolist()
        for end, target in enumerate(items[1:]):
            own = [place for place, item in enumerate(items[: end + 1]) if DOMAIN[item] == DOMAIN[target]]
            assert found[row, end] == (own[-1] if own else -1)


def test_a_batch_in_which_one_domain_is_missing():
    made = model_of("syncrec", TABLE).train()
    objective = NextItem(TrainingSettings(), Negatives.over(TABLE, torch.Generator().manual_seed(0)))
    terms = made.loss(batch_of(TABLE, sequences([1, 5, 2], [6])), objective)
    assert all(term.isfinite() for term in terms.values())
