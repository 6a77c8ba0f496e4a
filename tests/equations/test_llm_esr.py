"""LLM-ESR: its views, its teachers and its loss against slow float64 versions."""

import math

import pytest
import torch
from toy import batch_of, domains_of_size, model_of, random_sequences, sequences, text_table

from edt_cli.config import ModelSettings, Settings, TrainingSettings, UsageError, UserError
from edt_cli.models.batch import item_table
from edt_cli.models.encoders import IdEncoder, project_pca
from edt_cli.models.llm_esr import CrossAttention, nearest_users
from edt_cli.models.losses import soft_contrast
from edt_cli.models.objective import Negatives, NextItem
from edt_cli.models.systems import checked

DOMAINS = domains_of_size(6, 5)
ROWS = sequences([1, 7, 3, 8, 2, 9, 4], [7, 8, 9], [1, 2], [10, 5, 11, 6, 3])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(scores: list[float]) -> list[float]:
    return [math.exp(score) / sum(math.exp(other) for other in scores) for score in scores]


@torch.no_grad()
def test_equation_3_each_query_gathers_what_the_other_view_had_so_far():
    attention = CrossAttention(6, 2).double()
    queries, over = random(2, 5, 6), random(2, 5, 6, seed=1)
    found = attention(queries, over)
    key, value = attention.key_value.weight.split(6)
    for row in range(2):
        for i in range(5):
            heads = []
            for part in (slice(0, 3), slice(3, 6)):
                q = (attention.query.weight @ queries[row, i])[part]
                shares = softmax([float(q @ (key @ over[row, j])[part]) / math.sqrt(3) for j in range(i + 1)])
                heads.append(sum(share * (value @ over[row, j])[part] for j, share in enumerate(shares)))
            expected = attention.out.weight @ torch.cat(heads) + attention.out.bias
            torch.testing.assert_close(found[row, i], expected)


@torch.no_grad()
def test_both_views_by_one_encoder_side_by_side():
    model = model_of("llm-esr", text_table(DOMAINS, ROWS, without_text=(2, 9)))
    batch = batch_of(text_table(DOMAINS, ROWS), ROWS)
    found, items = model.encode_positions(batch), model.encode_items(batch.items)
    assert found.shape[-1] == items.shape[-1] == model.width == 16
    embed, encode = model.backbone.embed, model.backbone.encode
    collaborative, semantic = embed(model.collaborative(batch.items)), embed(model.encoder(batch.items))
    first = encode(model.to_collaborative(semantic, collaborative), batch.lengths)
    second = encode(model.to_semantic(collaborative, semantic), batch.lengths)
    torch.testing.assert_close(found, torch.cat([first, second], -1))


@torch.no_grad()
def test_without_cross_attention_the_views_do_not_meet():
    table = text_table(DOMAINS, ROWS)
    model, batch = model_of("llm-esr", table, cross_attention=False), batch_of(table, ROWS)
    found = model.encode_positions(batch)
    torch.testing.assert_close(found[..., :8], model.backbone(model.collaborative(batch.items), batch.lengths))
    torch.testing.assert_close(found[..., 8:], model.backbone(model.encoder(batch.items), batch.lengths))


def test_the_most_alike_by_cosine_nobody_oneself_and_no_one_without_a_profile(monkeypatch):
    monkeypatch.setattr("edt_cli.models.llm_esr.CHUNK", 4)
    profiles, among = random(9, 3), torch.ones(9, dtype=torch.bool)
    profiles[5] = 0
    among[7] = False
    found = nearest_users(profiles, among, 7)
    for user in range(9):
        others = [one for one in range(9) if one not in (user, 5, 7)]
        cosines = {one: float(profiles[user] @ profiles[one] / profiles[one].norm()) for one in others}
        expected = sorted(others, key=lambda one: -cosines[one])
        expected = [] if user == 5 else expected
        assert found[user].tolist() == expected + [-1] * (7 - len(expected))


@pytest.mark.parametrize("training", [False, True])
def test_the_distance_to_the_mean_state_of_similar_users(training):
    """Teachers are encoded without dropout, and nothing is learned from their side."""
    table = text_table(DOMAINS, ROWS)
    model = model_of("llm-esr", table, similar=3, alpha=0.3, dropout=0.5 if training else 0.0)
    histories = random_sequences(DOMAINS)
    model.similar[1] = -1
    model.similar[2, 1:] = -1
    batch = batch_of(table, histories)
    with torch.no_grad():
        last = model.encode_last(batch)
    if not training:
        objective = NextItem(TrainingSettings(), Negatives.over(table, torch.Generator().manual_seed(0)))
        total = 0.0
        taught = [user for user in range(len(histories)) if user != 1]
        for user in taught:
            teachers = [last[one] for one in model.similar[user].tolist() if one >= 0]
            total += float(((last[user] - torch.stack(teachers).mean(0)) ** 2).mean()) / len(taught)
        terms = model.loss(batch, objective)
        assert set(terms) == {"next_item", "distil"}
        assert terms["distil"].item() == pytest.approx(0.3 * total, rel=1e-4)
        return
    model.train()
    found = model._teachers(model.similar[[0, 2]])
    assert model.training and not found.requires_grad
    torch.testing.assert_close(found[0], last[model.similar[0]].mean(0))
    torch.testing.assert_close(found[1], last[model.similar[2, 0]])
    assert model._teachers(model.similar[:0]).shape == (0, model.width), "a batch without anybody who has a profile"


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_contrast_with_soft_targets(temperature):
    one, other = random(4, 3), random(4, 3, seed=1)
    total = 0.0
    for i in range(4):
        for j in range(4):
            alike = [float(one[i] @ one[k] + other[i] @ other[k]) / 2 * temperature for k in range(4)]
            forth = softmax([float(one[i] @ other[k]) / temperature for k in range(4)])[j]
            back = softmax([float(one[k] @ other[j]) / temperature for k in range(4)])[i]
            total -= softmax(alike)[j] * (math.log(forth) + math.log(back)) / 8
    assert soft_contrast(one, other, temperature).item() == pytest.approx(total, rel=1e-12)


def test_principal_components_keep_distances_and_rows_of_zeros():
    vectors = torch.cat([random(20, 3) @ random(3, 7, seed=1), torch.zeros(1, 7, dtype=torch.float64)])
    among = torch.arange(21) < 20
    found = project_pca(vectors, among, 9)
    assert (found[20] == 0).all() and (found[:, 7:] == 0).all()
    torch.testing.assert_close(torch.cdist(found[:20], found[:20]), torch.cdist(vectors[:20], vectors[:20]))
    covariance = found[:20].T @ found[:20]
    torch.testing.assert_close(covariance, torch.diag(covariance.diagonal()))
    assert (covariance.diagonal().diff() <= 1e-9).all()
    assert project_pca(vectors, among, 2).shape == (21, 2)


def test_an_item_that_training_never_saw_has_its_start():
    table = item_table(DOMAINS, sequences([1, 2, 7]))
    start = torch.zeros(12, 2)
    start[[2, 5]] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    encoder = IdEncoder(table, 2, start)
    found = encoder(torch.arange(12))
    assert found[2].tolist() == [1, 2] and found[5].tolist() == [3, 4]
    assert len(encoder.weight) == 4
    torch.testing.assert_close(found[11], encoder.weight.mean(0))


def test_what_it_cannot_do_is_one_clear_line():
    table = text_table(DOMAINS, ROWS)
    for changes, message in (({"backbone": "bert4rec"}, "causal backbone"), ({"sequence": "single"}, "mixed seq")):
        with pytest.raises(UsageError, match=message):
            checked(Settings(model=ModelSettings(name="llm-esr", **changes)))
    with pytest.raises(UserError, match="cross_heads"):
        model_of("llm-esr", table, cross_heads=3)
