"""C2DSR against slow float64 versions of its parts, with three domains."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid
from toy import batch_of, domains_of_size, model_of, random_sequences, sequences, text_table

from edt_cli.models.c2dsr import transitions
from edt_cli.models.domain_sequences import next_of_domain

DOMAINS = domains_of_size(4, 3, 3)
ROWS = sequences([1, 5, 2, 8, 6, 1, 9, 5, 2], [5, 8, 6], [1, 2, 3], [9, 3, 7, 9, 4, 8])


def made(**settings):
    table = text_table(DOMAINS, ROWS)
    return model_of("c2dsr", table, **settings).double(), table


def neighbours(rows: list[list[int]]) -> np.ndarray:
    """A, row-normalised: how often each item is right after another."""
    counts = np.zeros((DOMAINS.items + 1, DOMAINS.items + 1))
    for row in rows:
        for source, following in pairwise(row):
            counts[source, following] += 1
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def of_domain(row: list[int], domain: int) -> list[int]:
    return [item for item in row if DOMAINS.of(np.array(item)) == domain]


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("part", ["mixed_items", "own_items"])
def test_the_graph_encoder_is_the_mean_of_the_powers_of_a_matrix(part, layers):
    model, _ = made(graph_layers=layers)
    prefixes = random_sequences(DOMAINS)
    view = [prefixes.of(user).tolist() for user in range(len(prefixes))]
    if part == "own_items":
        view = [of_domain(row, domain) for row in view for domain in range(3)]
    graph = getattr(model, part)
    e = graph.embed(torch.arange(DOMAINS.items + 1)).detach().numpy()
    power, total = e, e
    for _ in range(layers):
        power = neighbours(view) @ power
        total = total + power
    expected = total / (layers + 1) + e
    ids = torch.tensor([[3, 0, 10], [3, 1, 5]])
    # The shares are kept in float32.
    np.testing.assert_allclose(graph(ids).detach().numpy(), expected[ids.numpy()], rtol=1e-6, atol=1e-8)


def test_a_graph_without_an_edge_leaves_the_items_as_they_are():
    found = transitions(sequences([3], [], [2]), 5)
    assert found["starts"].tolist() == [0] * 6 and not len(found["following"])


def test_a_graph_has_no_edge_from_one_user_to_the_next():
    found = transitions(sequences([1, 2, 1, 3, 1, 2], [2, 2]), 4)
    assert found["starts"].tolist() == [0, 0, 2, 4, 5]
    assert found["following"].tolist() == [2, 3, 1, 2, 1]
    np.testing.assert_allclose(found["share"], [2 / 3, 1 / 3, 1 / 2, 1 / 2, 1])


def test_the_next_item_of_the_same_domain():
    items = torch.tensor([[1, 5, 2, 8, 6, 1, 0], [5, 8, 6, 0, 0, 0, 0]])
    domain_of = torch.from_numpy(np.append(0, DOMAINS.of(np.arange(1, 11))))
    expected = [[2, 6, 1, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0, 0]]
    assert next_of_domain(items, domain_of, 3).tolist() == expected


def state(encoder, items, ids: list[int]) -> torch.Tensor:
    """Of one prefix by itself."""
    x = items(torch.tensor([ids]))
    return encoder(x, torch.tensor([len(ids)]))[0, -1]


def test_a_state_is_the_mixed_one_plus_that_of_the_domain_asked_for():
    model, table = made()
    batch = batch_of(table, ROWS)
    found = model.encode_positions(batch)
    for row in range(len(ROWS)):
        ids = ROWS.of(row).tolist()
        for j in range(len(ids)):
            asked = int(batch.domains[row, j])
            expected = state(model.mixed, model.mixed_items, ids[: j + 1])
            if own := of_domain(ids[: j + 1], asked):
                expected = expected + state(model.own[asked], model.own_items, own)
            torch.testing.assert_close(found[row, j], expected)


def test_the_three_losses(monkeypatch):
    model, table = made(balance=0.6)
    batch = batch_of(table, ROWS)
    replaced = {0: {1: 4, 2: 3, 3: 1, 4: 2}, 1: {5: 7, 6: 5, 7: 6}, 2: {8: 10, 9: 8, 10: 9}}

    def swap(ids: list[int], domain: int) -> list[int]:
        return [replaced[domain].get(item, item) for item in ids]

    monkeypatch.setattr(
        type(model),
        "_corrupted",
        lambda self, items, domain: torch.tensor([swap(row, domain) for row in items.tolist()]),
    )
    w = model.encode_items(torch.arange(DOMAINS.items + 1))

    def softmax_of(h: torch.Tensor, target: int) -> torch.Tensor:
        scores = w[list(DOMAINS.range(int(DOMAINS.of(np.array(target)))))] @ h
        return torch.logsumexp(scores, 0) - w[target] @ h

    def objective(at, encode_items, memory=None):
        return torch.stack(
            [softmax_of(h, target) for h, target in zip(at.states, at.targets.tolist(), strict=True)]
        )

    def mixed(ids: list[int]) -> torch.Tensor:
        return state(model.mixed, model.mixed_items, ids)

    cross, single, infomax = [], [], [[], [], []]
    for user in range(len(ROWS)):
        ids = ROWS.of(user).tolist()
        cross += [softmax_of(mixed(ids[: j + 1]), ids[j + 1]) for j in range(len(ids) - 1)]
        by_domain = {}
        for j, item in enumerate(ids):
            domain = int(DOMAINS.of(np.array(item)))
            later = of_domain(ids[j + 1 :], domain)
            if not later:
                continue
            own = state(model.own[domain], model.own_items, of_domain(ids[: j + 1], domain))
            single.append(softmax_of(mixed(ids[: j + 1]) + own, later[0]))
            by_domain.setdefault(domain, []).append((j, own))
        for domain in range(3):
            others = [j for other, places in by_domain.items() if other != domain for j, _ in places]
            if domain not in by_domain or not others:
                continue
            prototype = torch.stack([own for _, own in by_domain[domain]]).mean(0)
            true = torch.stack([mixed(ids[: j + 1]) for j in others]).mean(0)
            false = torch.stack([mixed(swap(ids[: j + 1], domain)) for j in others]).mean(0)
            judge = model.discriminators[domain]
            score_true, score_false = (prototype @ judge.weight @ other + judge.bias for other in (true, false))
            infomax[domain].append(-logsigmoid(score_true) - logsigmoid(-score_false))
    terms = model.loss(batch, objective)
    torch.testing.assert_close(terms["single"], 0.6 * torch.stack(single).mean())
    torch.testing.assert_close(terms["cross"], 0.6 * torch.stack(cross).mean())
    assert all(infomax)
    expected = 0.4 * sum(torch.stack(losses).mean() for losses in infomax)
    torch.testing.assert_close(terms["infomax"], expected)


def test_a_corrupted_sequence_has_other_items_of_the_one_domain_and_the_others_where_they_were():
    model, table = made()
    batch = batch_of(table, ROWS)
    for domain in range(3):
        found = model._corrupted(batch.items.repeat(50, 1), domain)
        before = batch.items.repeat(50, 1)
        inside = (table.domain_of[before] == domain) & (before > 0)
        assert torch.equal(found[~inside], before[~inside])
        assert sorted(found[inside].unique().tolist()) == list(DOMAINS.range(domain))


def test_users_of_one_domain_have_nothing_to_contrast():
    rows = sequences([1, 2, 3], [5, 6])
    table = text_table(DOMAINS, rows)
    model = model_of("c2dsr", table)
    terms = model.loss(batch_of(table, rows), lambda at, encode_items, memory=None: at.states.sum(1))
    sum(terms.values()).backward()
    assert terms["infomax"].item() == 0
