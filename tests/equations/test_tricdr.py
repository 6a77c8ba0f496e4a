"""TriCDR against slow float64 versions of its parts, with three domains."""

import numpy as np
import torch
from torch.nn.functional import leaky_relu, prelu, relu
from toy import batch_of, domains_of_size, model_of, model_settings, sequences, text_table

from edt_cli.config import TrainingSettings
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.losses import nt_xent
from edt_cli.models.systems import make_model, options_of

DOMAINS = domains_of_size(4, 3, 3)
ROWS = sequences([1, 5, 2, 8, 6, 1, 9, 5, 2], [5, 8, 6, 5], [1, 2, 3], [9, 3, 7, 9, 4, 8], [4, 9, 1])


def made(**settings):
    table = text_table(DOMAINS, ROWS)
    model = model_of("tricdr", table, **settings).double()
    with torch.no_grad():
        for parameter in model.targets.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model, table


def domain_of(item: int) -> int:
    return int(DOMAINS.of(np.array(item)))


def attend(target, query, over, facts: list[torch.Tensor]) -> torch.Tensor:
    """TCA over a list of facts: the paper's five vectors side by side, one pair at a time."""
    if not facts:
        return torch.zeros_like(query)
    first, second = target.score[0].weight, target.score[2].weight
    scores = []
    for fact in facts:
        five = torch.cat([fact, query, fact * query, query - fact, over])
        hidden = prelu(target.pair.weight @ five + target.pair.bias, first)
        hidden = prelu(target.score[1].weight @ hidden + target.score[1].bias, second)
        scores.append(target.score[3].weight @ hidden + target.score[3].bias)
    weights = torch.cat(scores).softmax(0)
    return sum(weight * fact for weight, fact in zip(weights, facts, strict=True))


def own_state(model, ids: list[int], domain: int) -> torch.Tensor:
    """After the last item of `domain`."""
    own = [item for item in ids if domain_of(item) == domain]
    if not own:
        return torch.zeros(model.settings.hidden, dtype=torch.float64)
    return model.own[domain](model.encoder(torch.tensor([own])), torch.tensor([len(own)]))[0, -1]


def gathered(model, ids: list[int], domain: int) -> list[torch.Tensor]:
    """From the mixed, source and target sequence of one prefix, for the target `domain`."""
    prefixes = [ids[: j + 1] for j in range(len(ids))]
    mixed = [model.mixed(model.mixed_items(torch.tensor([p])), torch.tensor([len(p)]))[0, -1] for p in prefixes]
    own = [(domain_of(p[-1]), own_state(model, p, domain_of(p[-1]))) for p in prefixes]
    query, over = own_state(model, ids, domain), torch.stack(mixed).mean(0)
    source = [fact for other, fact in own if other != domain]
    inside = [fact for other, fact in own if other == domain]
    return [attend(model.targets[domain], query, over, facts) for facts in (mixed, source, inside)]


def test_a_state_gathers_from_the_mixed_the_source_and_the_target_sequence():
    model, table = made(scale=3.0)
    batch = batch_of(table, ROWS)
    found = model.encode_positions(batch)
    for row in range(len(ROWS)):
        ids = ROWS.of(row).tolist()
        for j in range(len(ids)):
            fuse = model.targets[int(batch.domains[row, j])].fuse
            three = torch.cat(gathered(model, ids[: j + 1], int(batch.domains[row, j])))
            fused = fuse[2].weight @ leaky_relu(fuse[0].weight @ three + fuse[0].bias) + fuse[2].bias
            torch.testing.assert_close(found[row, j], 3.0 * fused / fused.norm())


def test_items_score_by_their_cosine():
    model, _ = made()
    vectors = model.encode_items(torch.arange(DOMAINS.items + 1))
    torch.testing.assert_close(vectors[1:].norm(dim=1), torch.ones(DOMAINS.items, dtype=torch.float64))
    assert (vectors[0] == 0).all()


def test_nt_xent_pair_by_pair():
    one, other = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    views = [row / row.norm() for row in (*one, *other)]
    total = 0.0
    for i in range(8):
        own = torch.exp(views[i] @ views[(i + 4) % 8] / 0.3)
        total += -torch.log(own / sum(torch.exp(views[i] @ views[j] / 0.3) for j in range(8) if j != i))
    torch.testing.assert_close(nt_xent(one, other, 0.3), total / 8)
    assert nt_xent(one[:0], other[:0], 0.3) == 0


def test_the_two_contrasts():
    settings = {"coarse": 0.5, "fine": 2.0, "margin": 1.0, "mixed_source": 3.0, "source_target": 2.0}
    model, table = made(**settings)
    terms = model.loss(batch_of(table, ROWS), lambda at, encode_items: at.states.sum(1))
    coarse, fine = [], []
    for domain in range(3):
        projections = model.targets[domain].projections
        users = []
        for user in range(len(ROWS)):
            ids = ROWS.of(user).tolist()
            places = [j for j in range(1, len(ids)) if domain_of(ids[j]) == domain]
            if not places:
                continue
            before = ids[: places[-1]]
            if 0 < sum(domain_of(item) == domain for item in before) < len(before):
                three = gathered(model, before, domain)
                users.append(
                    [
                        p[2].weight @ relu(p[0].weight @ x + p[0].bias) + p[2].bias
                        for p, x in zip(projections, three, strict=True)
                    ]
                )
        assert users
        mixed, source, target = (torch.stack(one) for one in zip(*users, strict=True))
        coarse.append(
            3 * nt_xent(mixed, source, 0.1) + nt_xent(mixed, target, 0.1) + 2 * nt_xent(source, target, 0.1)
        )
        near, far = ((source - other + 1e-6).norm(dim=1) for other in (mixed, target))
        fine.append(relu(near - far + 1.0).mean())
    torch.testing.assert_close(terms["coarse"], 0.5 * torch.stack(coarse).mean() / 6)
    torch.testing.assert_close(terms["fine"], 2.0 * torch.stack(fine).mean())


def test_the_encoders_learn_apart_before_they_are_its_start():
    table = text_table(DOMAINS, ROWS)
    chosen, own = model_settings("tricdr")
    given = ModelInputs(table, chosen, TrainingSettings(), options_of("tricdr", own), ROWS)
    model = make_model(given)
    before = model.warm.double().eval()
    batch, seen = batch_of(table, ROWS), []

    def objective(at, encode_items):
        torch.testing.assert_close(at.positive, encode_items(at.targets))
        seen.append((at.states, at.targets))
        return at.states.sum(1)

    terms = before.loss(batch, objective)
    states, width = before.encode_positions(batch), chosen.hidden
    expected = {"mixed": ([], []), "own": ([], [])}
    for row in range(len(ROWS)):
        ids = ROWS.of(row).tolist()
        for j in range(len(ids)):
            domain, prefix = int(batch.domains[row, j]), ids[: j + 1]
            mixed = before.mixed(before.mixed_items(torch.tensor([prefix])), torch.tensor([j + 1]))[0, -1]
            alone = own_state(before, prefix, domain)
            torch.testing.assert_close(states[row, j], torch.cat([mixed, alone]))
            for name, state in (("mixed", mixed), ("own", alone)):
                if j + 1 < len(ids) and (name == "mixed" or any(domain_of(item) == domain for item in prefix)):
                    expected[name][0].append(state)
                    expected[name][1].append(ids[j + 1])
    for (found, targets), (name, (state, item)) in zip(seen, expected.items(), strict=True):
        torch.testing.assert_close(found, torch.stack(state))
        assert targets.tolist() == item
        torch.testing.assert_close(terms[name], torch.stack(state).sum(1).mean())
    assert before.encode_items(torch.arange(5)).shape == (5, before.width) == (5, 2 * width)

    model.double().phases(given)[1].enter()
    assert model.warm is None and model.width == width
    for name, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    afresh = {**own, "warm": False}
    assert make_model(ModelInputs(table, chosen, TrainingSettings(), options_of("tricdr", afresh))).warm is None


def test_users_of_one_domain_have_nothing_to_contrast():
    rows = sequences([1, 2, 3], [5, 6])
    table = text_table(DOMAINS, rows)
    model = model_of("tricdr", table)
    terms = model.loss(batch_of(table, rows), lambda at, encode_items: at.states.sum(1))
    sum(terms.values()).backward()
    assert terms["coarse"].item() == 0 and terms["fine"].item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
