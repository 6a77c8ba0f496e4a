"""What stages would cost: arithmetic of ranges, prices, limits, and nothing where everything is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy import random_dataset

from edt_backends.base import FurtherPrices
from edt_backends.store import Observed
from edt_cli.config import LimitSettings, load_settings
from edt_cli.data.item_vectors import ItemVectors
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.estimate import TOKENS_A_BYTE, Known, Span, estimates
from edt_cli.workspace.layout import Workspace


def pipeline(tmp_path, **flags) -> Pipeline:
    values = {"llm": {"provider": "openai/gpt-4o-mini"}, **flags}
    return Pipeline(Workspace(tmp_path), random_dataset(), load_settings("llm-edt-ce", flags=values))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not a key")


def test_spans_add_and_multiply():
    assert Span(1, 2) + Span(3, 5) == Span(4, 7)
    assert Span(1, 2).times(Span(3, 5)) == Span(3, 10)


def test_both_stages_are_told_with_their_price(tmp_path):
    stages = {one.stage: one for one in estimates(pipeline(tmp_path, limits={"price": "2,8"}))}
    assert list(stages) == ["augment", "profile"]
    augment = stages["augment"]
    assert augment.calls.low == augment.calls.high > 0 and augment.cached == 0
    cost = augment.prompt_tokens.times(Span(2e-6, 2e-6)) + augment.completion_tokens.times(Span(8e-6, 8e-6))
    assert augment.cost_usd == pytest.approx(cost)
    assert augment.prompt_tokens.high / augment.prompt_tokens.low == pytest.approx(
        TOKENS_A_BYTE.high / TOKENS_A_BYTE.low
    )
    document = augment.document()
    assert document["cost_usd_a_user"][1] == pytest.approx(cost.high / augment.users)
    assert document["paper_usd_a_user"] == 0.000194 and document["basis"] == "stated ranges"


def test_what_is_switched_off_or_made_costs_nothing(tmp_path):
    assert [one.stage for one in estimates(pipeline(tmp_path, augmentation={"enabled": False}))] == ["profile"]
    local = Pipeline(Workspace(tmp_path), random_dataset(), load_settings("llm-edt-ce"))
    local.profiles()
    assert estimates(local) == []


def test_items_with_vectors_are_not_embedded(tmp_path):
    settings = load_settings("content-knn", flags={"embedding": {"embedder": "openai/text-embedding-3-small"}})
    plain = random_dataset()
    given = replace(plain, vectors=ItemVectors(tmp_path, "v.npy, 12345678", 4))
    stages = [estimates(Pipeline(Workspace(tmp_path), dataset, settings)) for dataset in (plain, given)]
    assert [[one.stage for one in of] for of in stages] == [["embed"], []]


@pytest.mark.parametrize(
    ("limits", "seconds"), [({}, 100 * 10 / 4), ({"rpm": 10.0}, 600.0), ({"tpm": 1000.0}, 1200.0)]
)
def test_the_slowest_of_answers_requests_and_tokens_counts(limits, seconds):
    known = Known(None, None, {}, 4, LimitSettings(**limits))  # type: ignore[arg-type]
    found = known._duration(Span(100, 100), Span(20_000, 20_000), Span(1000, 1000))
    assert found == pytest.approx(Span(seconds, seconds))


def test_what_the_provider_knew_of_earlier_prompts_is_cheaper_in_the_estimate():
    class Priced:
        def further_prices(self):
            return FurtherPrices(cached=0.5e-6)

    observed = {"analyze@2": Observed(questions=20, replies=20, prompt_tokens=1000, cached_tokens=400)}
    known = Known(Priced(), (2e-6, 8e-6), observed, 4, LimitSettings())  # type: ignore[arg-type]
    assert known.share_at_full_price("analyze@2") == pytest.approx(1 - 0.4 * 0.75)
    assert known.share_at_full_price("generate@2") == 1.0, "nothing is known of it"
    assert replace(known, stated=True).share_at_full_price("analyze@2") == 1.0
