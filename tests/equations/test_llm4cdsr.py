"""LLM4CDSR: three threads and two contrasts, against slow versions; two domains and three."""

from itertools import combinations

import pytest
import torch
from toy import batch_of, domains_of_size, model_of, sequences, text_table

from edt_cli.config import TrainingSettings
from edt_cli.models.batch import Batch
from edt_cli.models.llm4cdsr import domain_components
from edt_cli.models.losses import alignment
from edt_cli.models.objective import Negatives, NextItem

TWO = domains_of_size(6, 5), sequences([1, 7, 3, 8, 2, 9, 4], [7, 8, 9], [1, 2], [10, 5, 11, 6, 3])
THREE = domains_of_size(4, 4, 3), sequences([1, 7, 3, 8, 2, 9, 4], [7, 8, 9], [1, 2], [10, 5, 11, 6, 3])


def after(backbone, vectors: torch.Tensor) -> torch.Tensor:
    """The state after the last of [L, D]."""
    return backbone.last(vectors.unsqueeze(0), torch.tensor([len(vectors)]))[0]


def own_items(table, items: list[int], domain: int) -> list[int]:
    return [item for item in items if int(table.domain_of[item]) == domain]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llm4cdsr", "llm4cdsr on gru4rec", "llm4cdsr on bert4rec"])
@pytest.mark.parametrize(("domains", "rows"), [TWO, THREE], ids=["two domains", "three domains"])
def test_three_threads_position_by_position(kind, domains, rows):
    """e . u + e^d . u^d, with u^d from the items of d alone."""
    table = text_table(domains, rows, without_text=(2, 9))
    model, batch = model_of(kind, table), batch_of(table, rows)
    states, vectors = model.encode_positions(batch), model.encode_items(torch.arange(12))
    for row in range(len(rows)):
        items = rows.of(row).tolist()
        for position in range(len(items) - 1):
            prefix, target = items[: position + 1], items[position + 1]
            domain = int(table.domain_of[target])
            own = own_items(table, prefix, domain)
            score = after(model.backbone, model.encoder(torch.tensor(prefix))) @ model.encoder(torch.tensor(target))
            if own:
                state = after(model.own_backbones[domain], model.own_items(torch.tensor(own)))
                score = score + state @ model.own_items(torch.tensor(target))
            torch.testing.assert_close(states[row, position] @ vectors[target], score, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("contrast", ["infonce", "soft"])
@pytest.mark.parametrize(("domains", "rows"), [TWO, THREE], ids=["two domains", "three domains"])
def test_the_loss_adds_domains_and_contrasts(contrast, domains, rows, monkeypatch):
    from edt_cli.models import losses

    table = text_table(domains, rows)
    own = {"alpha": 0.2, "beta": 0.3, "item_temperature": 0.5, "user_temperature": 2.0, "contrast": contrast}
    model = model_of("llm4cdsr", table, **own)
    monkeypatch.setattr(torch, "rand", lambda shape, device: torch.arange(shape[1]).expand(shape).float())
    batch = batch_of(table, rows)
    negatives = iter(torch.full((99,), 1))

    def objective(at, encode_items, memory=None):
        return -(at.states * at.positive).sum(1) + int(next(negatives))

    terms = model.loss(batch, objective)
    states, vectors = model.encode_positions(batch), model.encode_items(torch.arange(12))
    of_domain: dict[int, list[float]] = {}
    for row in range(len(rows)):
        items = rows.of(row).tolist()
        for position, target in enumerate(items[1:]):
            score = float(states[row, position] @ vectors[target])
            of_domain.setdefault(int(table.domain_of[target]), []).append(1 - score)
    expected = sum(sum(one) / len(one) for one in of_domain.values())
    assert terms["next_item"].item() == pytest.approx(expected, rel=1e-4)

    compare = alignment if contrast == "infonce" else losses.soft_contrast
    pairs = []
    for one, other in combinations(range(len(domains)), 2):
        met = [[own_items(table, rows.of(row).tolist(), d) for d in (one, other)] for row in range(len(rows))]
        met = [(first[-1], second[-1]) for first, second in met if first and second]
        sides = [model.encoder(torch.tensor(side)) for side in zip(*met, strict=True)]
        pairs.append(float(compare(*sides, 0.5)))
    assert terms["bridge"].item() == pytest.approx(0.2 * sum(pairs) / len(pairs), rel=1e-4)

    last = [after(model.backbone, model.encoder(torch.tensor(rows.of(row)))) for row in range(len(rows))]
    profiles = model.profile_adapter(model.profiles[: len(rows)])
    assert terms["align"].item() == pytest.approx(0.3 * float(compare(profiles, torch.stack(last), 2.0)), rel=1e-4)


def test_each_user_with_items_of_two_domains_gives_one_of_each():
    table = text_table(*TWO)
    model, batch, met = model_of("llm4cdsr", table), batch_of(table, TWO[1]), set()
    model.encoder.forward = lambda ids: ids
    for _ in range(60):
        ((one, other),) = model._bridges(batch)
        met |= {(int(a), int(b)) for a, b in zip(one, other, strict=True)}
    assert met == {(a, b) for a in (1, 3, 2, 4) for b in (7, 8, 9)} | {(a, b) for a in (5, 6, 3) for b in (10, 11)}


def test_a_masked_item_of_its_domain_is_hidden_in_both_threads():
    """BERT4Rec: another item at a masked place changes nothing; the item beside it does."""
    table = text_table(*TWO)
    model, batch = model_of("llm4cdsr on bert4rec", table), batch_of(table, TWO[1])
    masked = torch.zeros_like(batch.items, dtype=torch.bool)
    masked[[0, 0, 3], [2, 3, 0]] = True

    def restored(row: int, step: int, item: int) -> torch.Tensor:
        items = batch.items.clone()
        items[row, step] = item
        changed = Batch(batch.rows, items, batch.lengths, batch.targets, batch.domains)
        model._mask = lambda batch: masked
        with torch.no_grad():
            return model.training_positions(changed)[0].states

    expected = restored(0, 0, 1)
    assert expected.shape == (3, 16)
    torch.testing.assert_close(restored(0, 2, 6), expected)
    beside = restored(0, 0, 5)
    assert not torch.allclose(beside[0, 8:], expected[0, 8:])
    torch.testing.assert_close(beside[1, 8:], expected[1, 8:])
    torch.testing.assert_close(beside[2], expected[2])


def test_domain_vectors_start_from_their_own_domain_and_may_stay_there():
    table = text_table(*TWO, without_text=(2,))
    start = domain_components(table, 3)
    assert (start[[0, 2]] == 0).all()
    for own in ([1, 3, 4, 5, 6], [7, 8, 9, 10, 11]):
        torch.testing.assert_close(start[own].mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    model = model_of("llm4cdsr", table, learned=False)
    assert not model.own_items.weight.requires_grad
    torch.testing.assert_close(model.own_items(torch.tensor([7]))[0, :5], domain_components(table, 8)[7, :5])
    objective = NextItem(TrainingSettings(), Negatives.over(table, torch.Generator().manual_seed(0)))
    torch.stack(list(model.loss(batch_of(table, TWO[1]), objective).values())).sum().backward()
    assert model.own_items.weight.grad is None
