"""What stages would cost: arithmetic of ranges, prices, limits, and nothing where everything is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy import random_dataset

from edt_backends.base import ChatRequest, FurtherPrices, Message
from edt_backends.cache import CachedChat
from edt_backends.local import LocalChat
from edt_backends.store import Observed, ReplyCache
from edt_backends.too_long import TooLong
from edt_cli.config import LimitSettings, load_settings
from edt_cli.data.item_vectors import ItemVectors
from edt_cli.llm.providers import Providers
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.estimate import TOKENS_A_BYTE, Known, Span, estimates, fitting
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


def test_the_second_llm_is_in_the_estimate_as_if_it_answered_everything(tmp_path):
    (tmp_path / "models.toml").write_text('[dear]\nmodel = "openai/dear"\nprice = "20,80"\n', "utf-8")
    limits = {"price": "2,8"}
    alone = estimates(pipeline(tmp_path, limits=limits))
    second = estimates(
        pipeline(tmp_path, limits=limits, llm={"provider": "openai/gpt-4o-mini", "fallback": "dear"})
    )
    for one, two in zip(alone, second, strict=True):
        assert two.cost_usd.low == one.cost_usd.low and two.cost_usd.high == pytest.approx(10 * one.cost_usd.high)
        assert two.calls == one.calls and two.basis == "stated ranges; at worst all by openai/dear"
    cheap = {"provider": "openai/gpt-4o-mini", "fallback": "ollama/llama3.1"}
    assert [one.cost_usd for one in estimates(pipeline(tmp_path, limits=limits, llm=cheap))] == [
        one.cost_usd for one in alone
    ]
    unknown = {"provider": "openai/gpt-4o-mini", "fallback": "openai/of-no-known-price"}
    assert [one.cost_usd for one in estimates(pipeline(tmp_path, limits=limits, llm=unknown))] == [None, None]


def test_a_question_that_was_too_long_is_estimated_as_it_is_sent(tmp_path):
    short = ChatRequest("generate@2", (Message("user", "a"),))
    long = replace(short, messages=(Message("user", "a b"),), shorter=lambda: short)
    chat = CachedChat(LocalChat(None), ReplyCache(tmp_path))
    assert fitting(chat, long) is long
    TooLong(tmp_path).add(chat.key(long), long.max_tokens)
    assert fitting(CachedChat(LocalChat(None), ReplyCache(tmp_path)), long) is short


def test_a_dry_run_asks_no_embedder_even_if_it_is_free(tmp_path):
    llm = {"provider": "openai/x", "api_base": "http://127.0.0.1:9/v1"}
    settings = load_settings("llm-edt-ce", flags={"llm": llm, "embedding": {"embedder": "openai/e"}})
    shared = Providers(Workspace(tmp_path), settings, dry=True)
    dry = Pipeline(Workspace(tmp_path), random_dataset(), settings, shared=shared)
    assert [one.stage for one in estimates(dry)] == ["augment", "profile"]


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
