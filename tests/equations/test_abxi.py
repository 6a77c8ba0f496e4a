"""ABXI against slow versions that one can read off the paper: each state by itself, the loss, its negatives."""

import math

import pytest
import torch
from slow import attention
from toy import batch_of, domains_of_size, model_of, sequences, text_table

from edt_cli.config import Settings, TrainingSettings
from edt_cli.models.objective import Negatives, NextItem
from edt_cli.models.positions import Positions

DOMAINS = domains_of_size(4, 3, 4)
ROWS = sequences([1, 5, 3, 8, 2, 6, 9, 4], [5, 6, 7], [1, 2], [10, 5, 11, 6, 3], [4])
TABLE = text_table(DOMAINS, ROWS)
DOMAIN = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]


def made(**options):
    model = model_of("abxi", TABLE, domain_rank=2, invariant_rank=3, **options).double()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.3)
    return model


@pytest.fixture
def model():
    return made()


def attended(model, items: list[int], to_come: int | None = None) -> torch.Tensor:
    """After the last of `items`, which is all that it sees; positions count from the first, or from where `to_come`
    more of them will have been asked about."""
    order = range(len(items)) if to_come is None else [len(items) - 1 + to_come - i for i in range(len(items))]
    x = model.encode_items(torch.tensor(items)) + model.positions.weight[list(order)]
    return model.norm_attention(x[-1] + attention(model.attention, x, lambda i: range(i + 1))[-1])


def swiglu(part, x: torch.Tensor) -> torch.Tensor:
    gate, value = (part.gate_and_value.weight @ x).chunk(2)
    return part.out.weight @ (gate * torch.sigmoid(gate) * value)


def lora(part, x: torch.Tensor) -> torch.Tensor:
    return part.up @ part.down @ x


def state(model, items: list[int], domain: int, rest: list[int] | None = None) -> torch.Tensor:
    """What scores the item of `domain` that comes after `items`. With `rest`, which comes after them, positions
    count from the newest item that is not only a target."""
    x = attended(model, items, None if rest is None else len(rest) - 1)
    mixed = model.mixed.norm(x + swiglu(model.feedforward, x) + lora(model.mixed.lora, x))
    adapted = model.invariant[domain]
    invariant = adapted.norm(mixed + swiglu(model.projector, mixed) + lora(adapted.lora, mixed))
    own = [item for item in items if DOMAIN[item] == domain]
    if not own:
        return invariant + model.norm_specific[domain].bias
    x = attended(model, own, None if rest is None else [DOMAIN[item] for item in rest].count(domain) - 1)
    encoded = model.domain[domain]
    h = encoded.norm(x + swiglu(model.feedforward, x) + lora(encoded.lora, x))
    return invariant + model.norm_specific[domain](h + swiglu(model.specific[domain], h))


def test_each_state_is_an_invariant_interest_and_one_of_the_domain_that_is_asked_for(model):
    batch = batch_of(TABLE, ROWS)
    with torch.no_grad():
        found = model.encode_positions(batch)
        for row in range(len(ROWS)):
            items = ROWS.of(row).tolist()
            for end in range(len(items)):
                expected = state(model, items[: end + 1], int(batch.domains[row, end]))
                torch.testing.assert_close(found[row, end], expected)
    assert (found[batch.items == 0] == 0).all()


def test_positions_count_from_the_newest_item_as_in_the_public_code():
    model, batch = made(positions="newest").eval(), batch_of(TABLE, ROWS)
    with torch.no_grad():
        found, last = model.encode_positions(batch), model.encode_last(batch)
        for row in range(len(ROWS)):
            items = ROWS.of(row).tolist()
            for end in range(1, len(items)):
                domain = int(batch.domains[row, end - 1])
                torch.testing.assert_close(found[row, end - 1], state(model, items[:end], domain, items[end:]))
            domain = int(batch.domains[row, 0])
            torch.testing.assert_close(last[row], state(model, items, domain, [DOMAIN.index(domain)]))


def test_the_loss_is_a_mean_over_each_users_targets_of_a_domain_and_then_over_all_users(model):
    batch = batch_of(TABLE, ROWS)
    given = torch.rand(14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen: list[Positions] = []

    def objective(at, encode_items):
        seen.append(at)
        return given

    terms = model.loss(batch, objective)
    expected, number = torch.zeros(3, dtype=torch.float64), 0
    for row in range(len(ROWS)):
        items = ROWS.of(row).tolist()
        own: list[list[float]] = [[], [], []]
        for end in range(len(items) - 1):
            domain = DOMAIN[items[end + 1]]
            own[domain].append(float(given[number]))
            torch.testing.assert_close(seen[0].states[number], state(model, items[: end + 1], domain))
            torch.testing.assert_close(seen[0].positive[number], model.encode_items(torch.tensor(items[end + 1])))
            assert set(seen[0].seen[number].tolist()) - {0} == set(items)
            number += 1
        for domain in range(3):
            expected[domain] += sum(own[domain]) / max(1, len(own[domain])) / len(ROWS)
    assert number == 14 == len(seen[0].targets)
    torch.testing.assert_close(torch.stack([terms[f"L_{domain}"] for domain in range(3)]), expected)


@pytest.mark.parametrize("cross_domain_negatives", [False, True])
def test_negatives_are_each_positions_own_of_each_domain_and_none_that_the_user_has_had(cross_domain_negatives):
    """Two for each position, neighbours out of the three that they share."""
    settings = TrainingSettings(
        loss="ce",
        negatives=2,
        negative_pool=3,
        cross_domain_negatives=cross_domain_negatives,
        seen_negatives=False,
        loss_temperature=0.75,
    )
    draws = Negatives.over(TABLE, torch.Generator().manual_seed(3))
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 3, generator=random, dtype=torch.float64)
    states = torch.randn(4, 3, generator=random, dtype=torch.float64)
    targets = torch.tensor([2, 9, 6, 4])
    had = torch.tensor([[2, 1, 3, 0], [9, 7, 10, 8], [6, 2, 0, 0], [4, 0, 0, 0]])
    found = NextItem(settings, draws)(Positions(states, vectors[targets], targets, had), lambda ids: vectors[ids])

    again = Negatives.over(TABLE, torch.Generator().manual_seed(3))
    for domain in range(3):
        rows = [j for j in range(4) if DOMAIN[int(targets[j])] == domain]
        scores: dict[int, list[float]] = {j: [float(states[j] @ vectors[targets[j]]) / 0.75] for j in rows}
        for other in range(3) if cross_domain_negatives else [domain]:
            drawn = again.pools(other, 3, 1)[0].tolist()
            first = torch.randint(3, (len(rows), 1), generator=again.generator).flatten().tolist()
            for j, start in zip(rows, first, strict=True):
                own = {drawn[start], drawn[(start + 1) % 3]} - set(had[j].tolist())
                scores[j] += [float(states[j] @ vectors[item]) / 0.75 for item in own]
        for j in rows:
            total = sum(math.exp(score) for score in scores[j])
            assert found[j].item() == pytest.approx(-math.log(math.exp(scores[j][0]) / total), rel=1e-12)


def test_negatives_of_every_domain_need_the_softmax():
    with pytest.raises(ValueError, match="cross_domain_negatives needs"):
        Settings(training=TrainingSettings(cross_domain_negatives=True))
