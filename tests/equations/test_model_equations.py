"""The equations of sections 3.3 and 3.4.3 against slow float64 versions that one can read off the paper."""

import math

import numpy as np
import pytest
import torch
from toy import batch_of, domains_of_size, model_of, random_sequences, sequences, text_table

from edt_cli.config import ModelSettings, TrainingSettings
from edt_cli.models import objective as objectives
from edt_cli.models.domain_sequences import domain_positions, domain_sequence, shared_domain_positions
from edt_cli.models.encoders import Adapter, TextAndIdEncoder, TextEncoder
from edt_cli.models.fine_tuning import frozen_states
from edt_cli.models.losses import alignment, bce, bpr, sampled_softmax
from edt_cli.models.objective import Negatives, NextItem
from edt_cli.models.positions import Positions

DOMAINS = domains_of_size(6, 5)
ROWS = sequences([1, 7, 3, 8, 2, 9, 4], [7, 8, 9], [1, 2], [10, 5, 11, 6, 3])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rows", [3, 50])
def test_equation_7_folded_or_not(rows):
    """Both sides of the choice between one matrix and two."""
    adapter = Adapter(6, 4, 5).double()
    e = random(rows, 6)
    expected = np.zeros((rows, 5))
    for row in range(rows):
        inner = adapter.inner.weight.detach().numpy() @ e[row].numpy() + adapter.inner.bias.detach().numpy()
        expected[row] = adapter.outer.weight.detach().numpy() @ inner + adapter.outer.bias.detach().numpy()
    np.testing.assert_allclose(adapter(e).detach().numpy(), expected, rtol=1e-12)


def test_equation_9_and_12_bpr():
    states, positive, negative = random(4, 3), random(4, 3, seed=1), random(4, 2, 3, seed=2)
    found = bpr(states, positive, negative)
    for j in range(4):
        losses = [
            -math.log(sigmoid(float(states[j] @ positive[j]) - float(states[j] @ negative[j, k]))) for k in range(2)
        ]
        assert found[j].item() == pytest.approx(sum(losses) / 2, rel=1e-12)


def test_bce_of_sasrec():
    states, positive, negative = random(4, 3), random(4, 3, seed=1), random(4, 2, 3, seed=2)
    found = bce(states, positive, negative)
    for j in range(4):
        own = -math.log(sigmoid(float(states[j] @ positive[j])))
        others = [-math.log(1 - sigmoid(float(states[j] @ negative[j, k]))) for k in range(2)]
        assert found[j].item() == pytest.approx(own + sum(others) / 2, rel=1e-12)


def test_sampled_softmax_and_its_gradient():
    own, others = random(4).requires_grad_(), random(4, 5, seed=1)
    others[1, 2] = others[3, 0] = -math.inf
    others.requires_grad_()
    found = sampled_softmax(own, others)
    for j in range(4):
        total = math.exp(own[j].item()) + sum(math.exp(others[j, k].item()) for k in range(5))
        assert found[j].item() == pytest.approx(-math.log(math.exp(own[j].item()) / total), rel=1e-12)
    weights = random(4, seed=2)
    slow = torch.logsumexp(torch.cat([own[:, None], others], 1), 1) - own
    expected = torch.autograd.grad((slow * weights).sum(), (own, others))
    for one, other in zip(torch.autograd.grad((found * weights).sum(), (own, others)), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_softmax_over_shared_negatives_of_the_domain_and_none_that_the_user_has_had():
    table = text_table(DOMAINS, ROWS)
    settings = TrainingSettings(loss="ce", negatives=3, loss_temperature=0.5, seen_negatives=False)
    objective = NextItem(settings, Negatives.over(table, torch.Generator().manual_seed(0)))
    again = Negatives.over(table, torch.Generator().manual_seed(0))
    drawn = {domain: again.shared(domain, 3) for domain in range(2)}
    vectors, targets = random(12, 3), torch.tensor([2, 8, 4, 11])
    had = torch.tensor([[2, 1, 3, 4, 5, 0], [8, 7, 9, 1, 0, 0], [4, 0, 0, 0, 0, 0], [11, 1, 2, 0, 0, 0]])
    at = Positions(random(4, 3, seed=1), vectors[targets], targets, had)
    found = objective(at, lambda ids: vectors[ids])
    for j, target in enumerate(targets.tolist()):
        negatives = [item for item in drawn[int(target > 6)].tolist() if item not in had[j].tolist()]
        scores = [float(at.states[j] @ vectors[item]) / 0.5 for item in (target, *negatives)]
        expected = -math.log(math.exp(scores[0]) / sum(math.exp(score) for score in scores))
        assert found[j].item() == pytest.approx(expected, rel=1e-12)
    assert sorted(objective.negatives.shared(0, 99).tolist()) == [1, 2, 3, 4, 5, 6]


def test_each_position_has_negatives_of_its_own_out_of_the_shared_ones():
    domains = domains_of_size(40, 30)
    table = text_table(domains, random_sequences(domains))
    settings = TrainingSettings(loss="ce", negatives=4, negative_pool=12, seen_negatives=False)
    objective = NextItem(settings, Negatives.over(table, torch.Generator().manual_seed(0)))
    again = Negatives.over(table, torch.Generator().manual_seed(0))
    (pool,) = again.pools(0, 12, 1)
    first = torch.randint(12, (9, 1), generator=again.generator)
    vectors, targets = random(71, 3), torch.arange(1, 10)
    had = torch.arange(1, 28).view(9, 3)
    found = objective(Positions(random(9, 3, seed=1), vectors[targets], targets, had), lambda ids: vectors[ids])
    states, kinds = random(9, 3, seed=1), set()
    for j, target in enumerate(targets.tolist()):
        own = [int(pool[(int(first[j]) + step) % 12]) for step in range(4)]
        kinds.add(tuple(own))
        scores = [
            float(states[j] @ vectors[item]) for item in (target, *(i for i in own if i not in (target, *had[j])))
        ]
        assert found[j].item() == pytest.approx(math.log(sum(map(math.exp, scores))) - scores[0], rel=1e-12)
    assert len(kinds) > 4


def test_few_positions_share_a_pool_and_the_pools_of_a_batch_hold_different_items(monkeypatch):
    monkeypatch.setattr(objectives, "SHARED_BY", 3)
    domains = domains_of_size(40, 30)
    table = text_table(domains, random_sequences(domains))
    settings = TrainingSettings(loss="ce", negatives=12, negative_pool=12, seen_negatives=False)
    objective = NextItem(settings, Negatives.over(table, torch.Generator().manual_seed(0)))
    pools = Negatives.over(table, torch.Generator().manual_seed(0)).pools(0, 12, 3)
    assert len(set(pools.flatten().tolist())) == 36
    vectors, targets, states = random(71, 3), torch.arange(1, 10), random(9, 3, seed=1)
    found = objective(Positions(states, vectors[targets], targets), lambda ids: vectors[ids])
    for j, target in enumerate(targets.tolist()):
        items = (target, *(i for i in pools[j // 3].tolist() if i != target))
        scores = [float(states[j] @ vectors[item]) for item in items]
        assert found[j].item() == pytest.approx(math.log(sum(map(math.exp, scores))) - scores[0], rel=1e-12)
    again = objective.negatives.pools(0, 12, 5)
    assert [len(set(pool.tolist())) for pool in again] == [12] * 5
    assert sorted(objective.negatives.pools(0, 99, 2)[1].tolist()) == list(range(1, 41))


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_equation_13_both_directions(temperature):
    users, profiles = random(5, 4), random(5, 4, seed=1)

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(a @ b) / float(a.norm() * b.norm())

    def one_side(rows: torch.Tensor, columns: torch.Tensor) -> float:
        total = 0.0
        for i in range(5):
            own = math.exp(cosine(rows[i], columns[i]) / temperature)
            others = sum(math.exp(cosine(rows[i], columns[j]) / temperature) for j in range(5) if j != i)
            total += math.log(own / others)
        return -total / 5

    expected = one_side(users, profiles) + one_side(profiles, users)
    assert alignment(users, profiles, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_equation_13_of_one_user_is_nothing_and_has_a_gradient():
    users = random(1, 4).requires_grad_()
    loss = alignment(users, random(1, 4), 1.0)
    loss.backward()
    assert loss.item() == 0


def test_equation_2_the_items_of_one_domain_in_their_order():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(0, 8, size=4)
        items = np.zeros((4, max(1, lengths.max())), dtype=np.int64)
        for row, length in enumerate(lengths):
            items[row, :length] = rng.integers(1, 12, size=length)
        asked = rng.integers(0, 2, size=4)
        domain_of = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
        found, found_lengths, place = domain_sequence(torch.from_numpy(items), domain_of, torch.from_numpy(asked))
        for row in range(4):
            own = [i for i in items[row, : lengths[row]].tolist() if int(domain_of[i]) == asked[row]]
            assert found[row, : found_lengths[row]].tolist() == own
            assert found_lengths[row] == len(own)
            for position in range(lengths[row]):
                before = [i for i in items[row, : position + 1].tolist() if int(domain_of[i]) == asked[row]]
                assert place[row, position] == len(before) - 1


@pytest.mark.parametrize("rows", [ROWS, sequences([7, 8, 9], [], [10]), sequences([], [])])
def test_one_encoder_for_all_domains_says_what_one_for_each_does(rows):
    batch = batch_of(text_table(DOMAINS, ROWS), rows)
    domain_of = text_table(DOMAINS, ROWS).domain_of
    vectors = random(len(domain_of), 3)
    calls = []

    def encode(x, lengths):
        calls.append(lengths.tolist())
        return x.cumsum(1)

    expected, there = domain_positions(batch, domain_of, 2, lambda _, items, lengths: vectors[items].cumsum(1))
    found, present = shared_domain_positions(batch, vectors[batch.items], domain_of, 2, encode)
    assert torch.equal(found, expected)
    assert torch.equal(present, there)
    assert all(length > 0 for lengths in calls for length in lengths)
    assert len(calls) <= 1


@pytest.mark.parametrize("backbone", ["llm-edt", "llm-edt on gru4rec", "llm-edt on bert4rec"])
def test_equations_10_and_11_position_by_position(backbone):
    """u + W (W' h^d + b') + b, with h^d from the items of d alone, encoded as a sequence of their own."""
    table = text_table(DOMAINS, ROWS, without_text=(2, 9))
    model = model_of(backbone, table)
    batch = batch_of(table, ROWS)
    with torch.no_grad():
        found = model.encode_positions(batch)
        for row in range(len(ROWS)):
            items = ROWS.of(row).tolist()
            for position in range(len(items) - 1):
                domain = 0 if items[position + 1] <= 6 else 1
                prefix = items[: position + 1]
                own = [item for item in prefix if (0 if item <= 6 else 1) == domain]
                expected = state_after(model, prefix)
                if own:
                    adapter = model.threads.adapters[domain]
                    expected = expected + adapter.outer(adapter.inner(state_after(model, own)))
                torch.testing.assert_close(found[row, position], expected, atol=1e-5, rtol=1e-4)


def state_after(model, items: list[int]) -> torch.Tensor:
    x = model.encode_items(torch.tensor([items]))
    return model.backbone.last(x, torch.tensor([len(items)]))[0]


def test_fine_tuning_starts_from_the_pre_trained_model():
    """The outer layer starts at zero, so eq. 11 gives u at first."""
    from edt_cli.config import ModelSettings
    from edt_cli.models.inputs import ModelInputs
    from edt_cli.models.llm_edt_options import LLMEDTOptions
    from edt_cli.models.systems import make_model

    table = text_table(DOMAINS, ROWS)
    settings = ModelSettings(hidden=8, blocks=1, dropout=0)
    model = make_model(ModelInputs(table, settings, TrainingSettings(), LLMEDTOptions(adapter=4))).eval()
    batch = batch_of(table, ROWS)
    with torch.no_grad():
        before = model.encode_positions(batch)
        model.fine_tuned = True
        torch.testing.assert_close(model.encode_positions(batch), before)


@pytest.mark.parametrize("some_inserted", [False, True])
@pytest.mark.parametrize("kind", ["llm-edt", "llm-edt on bert4rec"])
def test_kept_states_are_those_of_the_model(kind, some_inserted):
    """Section 3.3.2: what fine-tuning keeps gives the same scores as encoding every position anew."""
    from edt_cli.models.batch import DeviceSequences

    table = text_table(DOMAINS, ROWS, without_text=(2, 9))
    model = model_of(kind, table)
    inserted = np.arange(len(ROWS.items)) % 3 == 1 if some_inserted else None
    rows = DeviceSequences(ROWS, table, 12, inserted)
    kept = frozen_states(model, rows)
    batch = rows.batch(torch.arange(len(ROWS)))
    with torch.no_grad():
        expected = model.encode_positions(batch)[batch.targets > 0]
        domains = table.domain_of[kept.targets]
        found = kept.global_states + model.threads(kept.domain_states, kept.present, domains)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert kept.targets.tolist() == batch.targets[batch.targets > 0].tolist()


def test_large_frozen_states_lie_in_a_file_and_are_the_same(tmp_path, monkeypatch):
    from edt_cli.models.batch import DeviceSequences

    table = text_table(DOMAINS, ROWS)
    model, rows = model_of("llm-edt", table), DeviceSequences(ROWS, table, 12)
    kept = frozen_states(model, rows, tmp_path)
    monkeypatch.setattr("edt_cli.models.fine_tuning.KEPT_BYTES", 8)
    mapped = frozen_states(model, rows, tmp_path)
    assert torch.equal(mapped.global_states, kept.global_states)
    assert torch.equal(mapped.domain_states, kept.domain_states)
    assert mapped.global_states.untyped_storage().data_ptr() != kept.global_states.untyped_storage().data_ptr()
    assert not list(tmp_path.iterdir())


def test_equation_14_adds_alpha_times_the_alignment():
    table = text_table(DOMAINS, ROWS)
    model = model_of("llm-edt", table)
    model.fine_tuned = False
    objective = NextItem(TrainingSettings(), Negatives.over(table, torch.Generator().manual_seed(0)))
    terms = model.loss(batch_of(table, ROWS), objective)
    with torch.no_grad():
        last = torch.stack([state_after(model, ROWS.of(row).tolist()) for row in range(len(ROWS))])
        expected = 0.7 * alignment(last, model.profile_adapter(model.profiles[: len(ROWS)]), 1.0)
    assert set(terms) == {"next_item", "align"}
    torch.testing.assert_close(terms["align"].detach(), expected, atol=1e-5, rtol=1e-4)


def test_negatives_are_uniform_over_the_domain_of_the_positive_and_never_the_positive():
    table = text_table(DOMAINS, ROWS)
    negatives = Negatives.over(table, torch.Generator().manual_seed(0))
    for positive, others in ((3, [1, 2, 4, 5, 6]), (11, [7, 8, 9, 10])):
        drawn = negatives.each(torch.full((4000,), positive), 1).flatten()
        counts = torch.bincount(drawn, minlength=12)
        assert sorted(torch.nonzero(counts).flatten().tolist()) == others
        expected = 4000 / len(others)
        assert (counts[others] - expected).abs().max() < 5 * math.sqrt(expected)


def test_negatives_of_a_pseudo_item_are_catalogue_items_of_its_domain():
    from edt_cli.models.batch import item_table

    domain_of = np.concatenate([[-1], DOMAINS.of(np.arange(1, 12)), [1]])
    table = item_table(DOMAINS, sequences([1, 12, 7]), domain_of)
    drawn = Negatives.over(table, torch.Generator().manual_seed(0)).each(torch.full((500,), 12), 2)
    assert sorted(drawn.unique().tolist()) == [7, 8, 9, 10, 11]


def test_a_domain_of_one_item_has_only_that_one_to_draw():
    domains = domains_of_size(1, 3)
    table = text_table(domains, sequences([1, 2, 3]))
    drawn = Negatives.over(table, torch.Generator().manual_seed(0)).each(torch.tensor([1, 1]), 3)
    assert drawn.unique().tolist() == [1]


@pytest.mark.parametrize("rows", [65_536, 64])
def test_conditioning_is_an_invertible_affine_map_that_whitens(monkeypatch, rows):
    """So eq. 7 can express after it exactly what it could before; in one block of rows or in several."""
    from edt_cli.models import encoders
    from edt_cli.models.encoders import whiten

    monkeypatch.setattr(encoders, "ROWS", rows)
    e = random(200, 5) @ torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.2, 0.1], dtype=torch.float64)) + 7
    e[3] = 0
    among = torch.ones(200, dtype=torch.bool)
    among[[3, 9]] = False
    found = whiten(e, among, ridge=1e-9)
    assert (found[3] == 0).all()
    kept = found[among].numpy()
    np.testing.assert_allclose(kept.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(kept.T, bias=True), np.eye(5), atol=1e-5)
    with_one = np.hstack([e[among].numpy(), np.ones((198, 1))])
    solution, _, rank, _ = np.linalg.lstsq(with_one, kept, rcond=None)
    assert rank == 6 and np.abs(with_one @ solution - kept).max() < 1e-9


def test_items_started_from_their_text_are_as_alike_as_its_widest_directions():
    """Inner products at the start are those of the whitened text in its `hidden` principal components."""
    table = text_table(DOMAINS, ROWS, width=10)
    settings = ModelSettings(
        hidden=4, heads=1, encoder="llm", text_length=0.5, text_start="principal", item_std=0.1
    )
    encoder = TextEncoder(table, settings)
    text = encoder.text[1:].double().numpy()
    assert np.linalg.norm(text, axis=1).mean() == pytest.approx(0.5, rel=1e-5)
    # Every item stands in ROWS, so all of them say which directions are widest.
    _, axes = np.linalg.eigh(np.cov(text.T))
    narrow = text @ axes[:, -4:]
    expected = narrow @ narrow.T
    found = encoder(torch.arange(1, 12)).double().detach().numpy()
    assert found.std(ddof=1) == pytest.approx(0.1, rel=1e-4)
    np.testing.assert_allclose(
        found @ found.T, expected * np.trace(found @ found.T) / np.trace(expected), atol=1e-6
    )


def test_an_id_counts_by_what_training_has_of_its_item():
    """text(v) + n / (n + k) id(v), n the interactions with v; an item without any is its text."""
    rows = sequences([1, 7, 1, 8, 2], [7, 1, 9])
    table = text_table(DOMAINS, rows)
    for k in (0.0, 3.0):
        encoder = TextAndIdEncoder(table, ModelSettings(hidden=4, heads=1, encoder="both", id_shrinkage=k))
        for item, n in enumerate([0, 3, 1, 0, 0, 0, 0, 2, 1, 1, 0, 0]):
            if item and (n or k):
                id_of = encoder.by_id.weight[[1, 2, 7, 8, 9].index(item)].double() if n else 0.0
                one = torch.tensor([item])
                expected = encoder.by_text(one)[0].double() + (n / (n + k)) * id_of
                torch.testing.assert_close(encoder(one)[0].double(), expected, atol=1e-6, rtol=1e-6)


def test_a_block_that_starts_at_zero_passes_on_what_it_is_given():
    table = text_table(DOMAINS, ROWS)
    started = {zero: model_of("sasrec", table, zero_start=zero, item_std=0.1) for zero in (True, False)}
    batch = batch_of(table, ROWS)
    for zero, model in started.items():
        same = model.backbone.norm(model.backbone.embed(model.encode_items(batch.items)))
        assert torch.allclose(model.encode_positions(batch), same) == zero
