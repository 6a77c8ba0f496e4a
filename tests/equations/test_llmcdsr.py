"""LLMCDSR's terms against slow float64 versions, and its bilevel step against the public code's numbers."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from toy import (
    batch_of,
    domains_of_size,
    generated_items,
    model_of,
    random_sequences,
    sequences,
    text_table,
    view_of,
)

from edt_cli.config import ModelSettings, TrainingSettings
from edt_cli.models import llmcdsr
from edt_cli.models.batch import DeviceSequences, item_table
from edt_cli.models.inputs import GeneratedItems, ModelInputs
from edt_cli.models.llmcdsr import Drawn, inserted, straight_through
from edt_cli.models.losses import bce, two_views
from edt_cli.models.systems import make_model, options_of
from edt_cli.training.checkpoint import current_names

FIXTURE = Path(__file__).parents[1] / "fixtures" / "llmcdsr.safetensors"
DOMAINS = domains_of_size(6, 5, 7)
ROWS = random_sequences(DOMAINS)


@pytest.fixture
def model():
    """In three domains, with relevances that are not zero."""
    model = model_of("llmcdsr", text_table(DOMAINS, ROWS)).double()
    torch.nn.init.normal_(model.recall.relevance)
    torch.nn.init.normal_(model.space.encoder.weight)
    return model


def drawn_of(model, rows=(0, 2, 5)) -> Drawn:
    batch = model.rows.batch(torch.tensor(rows))
    return model.prepare_batch(batch)


def objective(at, encode_items):
    """One negative: the item before the target in its numbering."""
    return bce(at.states, at.positive, encode_items((at.targets - 1).clamp_min(1)).unsqueeze(1))


def test_the_contrast_of_two_views():
    a, b = (torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    views = [*a, *b]
    losses = []
    for i, one in enumerate(views):
        scores = [math.exp(float(one @ other) / 0.5) for j, other in enumerate(views) if j != i]
        losses.append(-math.log(math.exp(float(one @ views[(i + 4) % 8]) / 0.5) / sum(scores)))
    assert two_views(a, b, 0.5).item() == pytest.approx(sum(losses) / 8, rel=1e-12)
    assert two_views(a[:1], b[:1], 0.5).item() == pytest.approx(0, abs=1e-12)
    assert two_views(a[:0], b[:0], 0.5).item() == 0


def test_relevance_weighs_the_generated_items_of_a_user(model):
    recall, space = model.recall, model.space
    found = recall(torch.arange(len(recall.users)), space)
    for question, domain in enumerate(recall.domains.tolist()):
        texts = [recall.vectors[item] for item in recall.items[question].tolist() if item]
        projected = [space.projections[domain].weight @ text for text in texts]
        weights = [math.exp((recall.relevance[domain] @ p).item()) for p in projected]
        expected = sum(w * p for w, p in zip(weights, projected, strict=True)) / sum(weights)
        torch.testing.assert_close(found[question], expected)


def test_the_nearest_items_are_of_the_domain_known_to_training_and_new_to_the_user(model):
    recall, space = model.recall, model.space
    recall.seen[[2, 8]] = False
    questions = torch.arange(len(recall.users))
    sought = recall(questions, space)
    had = model.rows.batch(recall.users).items
    found = recall.nearest(sought, questions, space, had, 4)
    for question, domain in enumerate(recall.domains.tolist()):
        cosines = {}
        for item in DOMAINS.range(domain):
            if recall.seen[item] and item not in had[question].tolist():
                vector = space.encode_items(torch.tensor(item))
                cosines[item] = (vector @ sought[question] / vector.norm()).item()
        nearest = sorted(cosines, key=lambda item: -cosines[item])[:4]
        assert found[question].tolist() == nearest + [0] * (4 - len(nearest))


def test_the_directions_follow_the_weights(model):
    before = model.space.directions()
    assert model.space.directions() is before
    with torch.no_grad():
        model.space.encoder.weight.neg_()
    torch.testing.assert_close(model.space.directions(), -before)


@pytest.mark.parametrize("max_length", [20, 6, 3])
def test_recalled_items_stand_before_the_item_of_their_place_and_are_no_targets(max_length):
    rng = np.random.default_rng(2)
    table = text_table(DOMAINS, ROWS)
    rows = batch_of(table, sequences([1, 7, 3, 8], [2], [5, 6, 4, 3, 2, 1]))
    recalled = torch.tensor([[14, 9, 15], [8, 0, 0], [17, 0, 12]])
    places = torch.from_numpy(np.stack([rng.integers(0, length, 3) for length in (4, 1, 6)]))
    found, which = inserted(rows, recalled, places, table.domain_of, max_length)
    for row, length in enumerate((4, 1, 6)):
        expected = []
        for place, item in enumerate(rows.items[row, :length].tolist()):
            expected += [(c, k) for k, c in enumerate(recalled[row].tolist()) if c and places[row, k] == place]
            expected.append((item, -1))
        expected = expected[-max_length:]
        size = len(expected)
        assert found.lengths[row] == size
        assert found.items[row].tolist() == [item for item, _ in expected] + [0] * (found.items.shape[1] - size)
        assert which[row, :size].tolist() == [k for _, k in expected]
        targets = [item if k < 0 else 0 for item, k in expected[1:]]
        assert found.targets[row, : size - 1].tolist() == targets
        assert not found.targets[row, size - 1 :].any()
        assert found.inserted[row].tolist() == [k >= 0 for k in which[row].tolist()]
        assert torch.equal(found.domains[row], table.domain_of[found.targets[row]])


def test_the_mean_of_the_gradients_goes_straight_to_what_was_sought():
    recalled, sought = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    found = straight_through(recalled, sought)
    assert torch.equal(found, recalled)
    gradient = torch.randn(2, 3, 4)
    found.backward(gradient)
    assert recalled.grad is None
    torch.testing.assert_close(sought.grad, gradient.mean(1))


@pytest.mark.parametrize("kind", ["llmcdsr", "llmcdsr on gru4rec"])
@pytest.mark.parametrize("virtual", ["sgd", "adam"])
def test_the_gradient_of_the_bilevel_step_is_that_of_small_differences(kind, virtual, monkeypatch):
    """Along the line that the straight-through gradient stands for, all chance being fixed. Every item is one of
    training: the vector of another is a mean without a gradient."""
    model = model_of(kind, text_table(DOMAINS, sequences(list(range(1, 19)))), recalled=2).double()
    torch.nn.init.normal_(model.recall.relevance)
    # An epsilon that leaves Adam's first step smooth enough to be differenced.
    monkeypatch.setattr(llmcdsr, "ADAM_EPSILON", 1e-2)
    model.options = model.options.model_copy(update={"virtual": virtual, "virtual_lr": 0.1})
    drawn, relevance = drawn_of(model), model.recall.relevance
    with torch.no_grad():
        start = model.recall(drawn.pairs, model.space)

    def meta(offset: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(4)
        with torch.no_grad():
            relevance.add_(offset)
        try:
            return model.own_loss(drawn, objective)["meta"]
        finally:
            with torch.no_grad():
                relevance.sub_(offset)

    found = torch.autograd.grad(meta(torch.zeros_like(relevance)), relevance)[0]
    assert found.abs().max() > 1e-8

    def moved(recalled: torch.Tensor, sought: torch.Tensor) -> torch.Tensor:
        return recalled.detach() + (sought - start).unsqueeze(1) / recalled.shape[1]

    monkeypatch.setattr(llmcdsr, "straight_through", moved)
    for place in torch.topk(found.abs().flatten(), 3).indices:
        step = torch.zeros_like(relevance)
        step.view(-1)[place] = 1e-4
        slope = (meta(step) - meta(-step)).item() / 2e-4
        assert found.flatten()[place].item() == pytest.approx(slope, rel=1e-4)


def test_the_shared_step_leaves_the_recall_network_and_the_preparation_alone(model):
    model.loss(drawn_of(model), objective)["next_item"].backward()
    assert model.recall.relevance.grad is None
    assert all(parameter.grad is None for parameter in model.space.parameters())
    assert model.encoder.weight.grad.abs().sum() > 0


def test_the_preparation_learns_the_next_item_in_each_domain_and_the_contrast_of_its_items(model):
    batch, space = batch_of(text_table(DOMAINS, ROWS), ROWS), model.space
    found = space.loss(batch, objective)
    next_item = contrast = 0.0
    for domain in range(3):
        losses, items = [], set()
        for row in range(len(ROWS)):
            own = [item for item in ROWS.of(row).tolist() if item in DOMAINS.range(domain)]
            items |= set(own)
            if len(own) > 1:
                x = space.encode_items(torch.tensor([own]))
                states = space.backbones[domain](x, torch.tensor([len(own)]))[0]
                for place in range(len(own) - 1):
                    negative = space.encode_items(torch.tensor(max(1, own[place + 1] - 1)))
                    losses.append(
                        bce(states[place : place + 1], x[0, place + 1][None], negative[None, None]).item()
                    )
        next_item += sum(losses) / max(1, len(losses))
        told = torch.tensor(sorted(items))
        texts = space.text[told] @ space.projections[domain].weight.T
        contrast += two_views(texts, space.encode_items(told), 1.0).item()
    assert found["next_item"].item() == pytest.approx(next_item, rel=1e-9)
    assert found["contrast"].item() == pytest.approx(0.1 * contrast, rel=1e-9)


def test_without_users_of_several_domains_the_recall_network_stays_as_it_starts():
    rows = sequences([1, 2, 3, 4], [7, 8, 9], [1, 2, 5])
    table = text_table(DOMAINS, rows)
    settings = ModelSettings(name="llmcdsr", encoder="id", hidden=8, heads=2)
    generated = generated_items(DOMAINS, rows, table.text)
    given = ModelInputs(
        table,
        settings,
        TrainingSettings(),
        options_of("llmcdsr", {}),
        rows,
        view_of(DOMAINS, rows),
        None,
        generated,
    )
    model = make_model(given)
    assert model.own_optimizer() is None
    assert model.loss(drawn_of(model, (0, 1, 2)), objective)["next_item"].isfinite()
    alone = make_model(replace(given, generated=None))
    assert alone.space is None and alone.own_optimizer() is None
    batch = batch_of(table, rows)
    assert alone.prepare_batch(batch) is batch


def test_generated_items_by_user_and_domain():
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = GeneratedItems.of(np.array([4, 1, 4, 4]), np.array([1, 0, 1, 0]), np.array([5, 2, 3, 5]), vectors)
    assert found.users.tolist() == [1, 4, 4] and found.domains.tolist() == [0, 0, 1]
    assert [found.vectors[row].tolist() for row in found.items[2]] == [[10, 11], [6, 7]]
    assert found.items[:, 1].tolist() == [0, 0, found.items[2, 1].item()]
    assert found.vectors[0].tolist() == [0, 1] and len(found.vectors) == 4


@pytest.mark.parametrize("virtual", ["adam", "sgd"])
def test_the_bilevel_step_is_that_of_the_public_code(virtual, monkeypatch):
    """Its numbers, but for one thing: there a noisy row's own items are constants of the virtual step."""
    with safe_open(FIXTURE, "pt") as kept:
        notes = {name: json.loads(value) for name, value in kept.metadata().items()}
        t = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
    rows = sequences(*([item for item in row if item] for row in t["items"].tolist()))
    domains = domains_of_size(*notes["sizes"])
    table = item_table(domains, rows, vectors=t["given.text"].numpy())
    users, asked = t["given.users"].numpy(), t["given.domains"].numpy()
    generated = GeneratedItems.of(users, asked, 1 + np.arange(len(users)), t["given.vectors"].numpy())
    lr = {"adam": 1e-3, "sgd": 0.1}[virtual]
    settings = ModelSettings.model_validate(notes["model"])
    options = options_of("llmcdsr", {**notes["options"], "virtual": virtual, "virtual_lr": lr})
    view = view_of(domains, rows)
    model = make_model(
        ModelInputs(table, settings, TrainingSettings(), options, rows, view, None, generated)
    ).double()
    weights = {
        name.removeprefix(part): w
        for part in ("weights.", "recall.")
        for name, w in t.items()
        if name.startswith(part)
    }
    assert not model.load_state_dict(current_names(weights), strict=False).unexpected_keys

    def constant(at, encode_items):
        return bce(at.states, at.positive, encode_items(t["negative_of"][at.targets]).unsqueeze(1))

    at = DeviceSequences(rows, table, settings.max_length)
    batch, overlapped = (at.batch(t[f"drawn.{name}"]) for name in ("rows", "overlapped"))
    parts = llmcdsr._parts(batch)
    drawn = Drawn(**parts, pairs=t["drawn.questions"], overlapped=overlapped)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: t["drawn.chance"].double())
    noisy = model.noise(drawn)
    assert torch.equal(noisy.items, t["expected.noisy"])
    torch.testing.assert_close(noisy.query, t["expected.sought"].double(), atol=1e-6, rtol=1e-5)
    shared = model.loss(drawn, constant)["next_item"]
    assert shared.item() == pytest.approx(t["expected.next_item"].item(), rel=1e-6)
    meta = model.own_loss(drawn, constant)["meta"]
    assert meta.item() == pytest.approx(t[f"expected.{virtual}.meta"].item(), rel=1e-6)
    found = torch.autograd.grad(meta, model.recall.relevance)[0]
    expected = t[f"expected.{virtual}.gradient"].double()
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
