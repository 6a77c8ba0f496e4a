"""The augmenter from end to end on small data, with a scripted LLM."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from llm_fakes import Scripted, WordEmbedder, embed, make_view, text_vector

from edt_backends.base import BackendError
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.augment import augment, planned_requests
from edt_cli.config import AugmentationSettings, LLMSettings, UserError
from edt_cli.llm.embeddings import item_text
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import write_json

KINDS = ("mint tea", "steel kettle", "oak spade", "red shirt", "blue lamp")
TITLES = [f"{KINDS[number % 5]} model {number}" for number in range(24)]
KEEP_ALL = AugmentationSettings(tau=-1.0, keep=9)


def shop(domains: int = 2):
    """One-domain users, mixed ones, a balanced one, one with a single item and one with none."""
    sequences = [[1, 2, 3, 4], [5, 6, 13], [13, 14, 15], [1, 13], [7], [], [14, 1, 2, 20, 8, 9]]
    return make_view(sequences, [12, 12] if domains == 2 else [12, 6, 6], TITLES)


def items_for(request):
    """Five items whose words come from what the user bought, the last one the same for everybody."""
    words = request.inputs["texts"][0].split()[0]
    titles = [f"{words} new {number} {request.inputs['target_domain']}" for number in range(4)]
    return {"items": [{"title": title, "brand": "Acme"} for title in [*titles, "mint everywhere"]]}


def run(view, settings=KEEP_ALL, llm=None, answer=items_for, known_tau=None, events=None):
    chat, embedder = Scripted(answer), WordEmbedder()
    found = augment(
        view, embed(view), settings, llm or LLMSettings(), chat, embedder, events or Events(), known_tau
    )
    return found, chat, embedder


def own_items(found, user):
    sequences = found.sequences
    inserted = found.inserted[sequences.offsets[user] : sequences.offsets[user + 1]]
    return sequences.of(user)[~inserted].tolist(), sequences.of(user)[inserted].tolist()


def test_every_imbalanced_user_gets_items_of_the_smaller_domain_behind_their_anchors():
    view = shop()
    progress = []
    found, chat, _ = run(view, events=Events(listeners=(progress.append,)))
    assert chat.requests == list(planned_requests(view, embed(view), KEEP_ALL, LLMSettings()))
    assert [request.user for request in chat.requests] == ["U0", "U1", "U2", "U4", "U6"]
    ends = {record["stage"]: record["done"] for record in progress if record.get("done") == record.get("total")}
    assert ends["augment"] == 5 and progress[-1]["stage"] == "embed generated items"
    domain_of = found.domain_of(view.domains)
    for user in range(7):
        own, inserted = own_items(found, user)
        assert own == view.prefixes.of(user).tolist()
        assert len(inserted) == (5 if user in (0, 1, 2, 4, 6) else 0)
        assert set(domain_of[inserted]) <= {0 if user == 2 else 1}
    for row in found.generated.iter_rows(named=True):
        prefix, whole = view.prefixes.of(row["user"]), found.sequences.of(row["user"]).tolist()
        vector = text_vector(item_text({"title": row["title"], "brand": "Acme"}))
        anchor = prefix[row["anchor"]]
        sources = [item for item in prefix if item in view.domains.range(row["source"])]
        cosines = {int(item): float(vector @ text_vector(TITLES[item - 1])) for item in sources}
        assert row["score_source"] == pytest.approx(max(cosines.values()), abs=1e-5)
        assert cosines[anchor] == max(cosines.values())
        between = whole[whole.index(anchor) + 1 : whole.index(row["item"])]
        assert all(item > view.domains.items for item in between)
        assert row["kept"] and row["reason"] == "kept"


def test_pseudo_items_are_numbered_after_the_catalogue_one_for_each_text_of_a_domain():
    view = shop()
    found, _, embedder = run(view)
    assert found.pseudo["number"].to_list() == list(range(25, 25 + len(found.pseudo)))
    assert found.pseudo.select("domain", "title").is_unique().all()
    shared = found.pseudo.filter(title="mint everywhere")
    assert sorted(shared["domain"]) == [0, 1]
    (kitchen,) = shared.filter(domain=1)["number"]
    assert (found.sequences.items == kitchen).sum() == 4
    vectors = found.vectors(embed(view))
    assert vectors.dtype == np.float32 and len(vectors) == 25 + len(found.pseudo)
    for row in found.pseudo.iter_rows(named=True):
        np.testing.assert_allclose(vectors[row["number"]], text_vector(item_text(row)), atol=1e-6)
    assert len(embedder.asked) == len(set(embedder.asked))
    assert found.summary["items_after"] == {
        name: 12 + found.pseudo.filter(domain=domain).height for domain, name in enumerate(("food", "kitchen"))
    }


def test_the_filter_drops_with_a_reason_and_dropped_texts_are_no_items():
    view = shop()
    found, _, _ = run(view, AugmentationSettings(tau="q0.50", keep=2))
    tau = found.summary["tau"]
    represented = view.prefixes.domain_counts(view.domains) > 0
    for row in found.generated.iter_rows(named=True):
        kind = "with items" if represented[row["user"], row["target"]] else "without"
        assert row["tau"] == tau[view.domains.names[row["target"]]][kind]
        conditions = (row["rank"] <= 2, row["score_target"] >= row["tau"])
        expected = {
            (True, True): "kept",
            (False, True): "rank",
            (True, False): "tau",
            (False, False): "rank and tau",
        }
        assert row["reason"] == expected[conditions]
        assert row["kept"] == all(conditions)
        is_item = found.pseudo.filter(domain=row["target"], title=row["title"]).height
        assert (row["item"] is not None) == is_item
    assert 0 < found.summary["kept"] < found.summary["generated"]
    assert found.summary["kept"] == found.inserted.sum() == found.generated["kept"].sum()
    assert found.summary["share_kept"] == found.summary["kept"] / 25
    assert sorted(found.pseudo["number"]) == sorted(set(found.sequences.items[found.inserted]))


def users_of_all_kinds():
    """60 users: with tea alone, with pans alone, with mostly tea and a pan, with mostly pans and a tea."""
    rng = np.random.default_rng(1)
    tea, pans = np.arange(1, 13), np.arange(13, 25)
    kinds = ((tea, pans, 0, 24), (pans, tea, 0, 8), (tea, pans, 1, 20), (pans, tea, 1, 8))
    sequences = [
        np.concatenate([rng.choice(pool, 5), rng.choice(other, extra)]).tolist()
        for pool, other, extra, count in kinds
        for _ in range(count)
    ]
    return make_view(sequences, [12, 12], TITLES)


def items_of_their_own(request):
    return {"items": [{"title": f"{KINDS[int(request.user[1:]) % 5]} {request.user} {n}"} for n in range(5)]}


def per_asked(summary):
    return {
        (domain, kind): (summary["inserted"][domain][kind], asked)
        for domain, kinds in summary["asked_by_kind"].items()
        for kind, asked in kinds.items()
    }


def test_paper_tau_gives_table_1s_insertions_to_every_kind_of_user_alike():
    found, _, _ = run(users_of_all_kinds(), AugmentationSettings(), answer=items_of_their_own)
    cells = per_asked(found.summary)
    assert {cell: asked for cell, (_, asked) in cells.items()} == {
        ("food", "with items"): 8,
        ("food", "without"): 8,
        ("kitchen", "with items"): 20,
        ("kitchen", "without"): 24,
    }
    for inserted, asked in cells.values():
        assert inserted == round(0.34 * asked)
    assert abs(found.summary["kept"] - 0.34 * 60) <= 2
    assert sum(found.summary["inserted_by_r"].values()) == found.summary["kept"]
    assert found.summary["inserted_by_r"]["[0.95,1]"] == sum(cells[d, "without"][0] for d in ("food", "kitchen"))


def test_values_of_tau_that_are_handed_in_are_used():
    view = users_of_all_kinds()
    found, _, _ = run(view, AugmentationSettings(), answer=items_of_their_own)
    pilot, chat, _ = run(view, AugmentationSettings(), LLMSettings(limit_users=30), items_of_their_own)
    assert len(chat.requests) == 30
    for inserted, asked in per_asked(pilot.summary).values():
        assert inserted == max(1, round(0.34 * asked))
    known = pilot.summary["tau"]
    rest, _, _ = run(view, AugmentationSettings(), answer=items_of_their_own, known_tau=known)
    assert rest.summary["tau"] == known != found.summary["tau"]
    asked = {int(request.user[1:]) for request in chat.requests}
    for user in asked:  # what the pilot inserted stays as it was
        titles = (dict(part.pseudo.select("number", "title").iter_rows()) for part in (pilot, rest))
        before, after = (
            [names.get(item, item) for item in part.sequences.of(user)]
            for names, part in zip(titles, (pilot, rest), strict=True)
        )
        assert before == after
    del known["food"]["without"]  # a kind that the pilot had nobody of
    rest, _, _ = run(view, AugmentationSettings(), answer=items_of_their_own, known_tau=known)
    assert rest.summary["tau"]["food"] == {**known["food"], "without": found.summary["tau"]["food"]["without"]}


def test_few_different_items_are_told_of():
    found, _, _ = run(users_of_all_kinds(), AugmentationSettings(), answer=items_of_their_own)
    assert found.summary["warnings"] == []
    assert sum(found.summary["different_items"].values()) == len(found.pseudo)

    def the_same(request):
        return {"items": [{"title": "mint everywhere"}]}

    found, _, _ = run(users_of_all_kinds(), KEEP_ALL, answer=the_same)
    assert found.summary["different_items"] == {"food": 1, "kitchen": 1}
    food, kitchen = found.summary["warnings"]
    assert food.startswith("the 16 insertions in food are of only 1 different items; the same number")
    assert kitchen.startswith("the 44 insertions in kitchen")


def test_without_filtering_all_are_inserted_but_none_twice():
    def answer(request):
        return {"items": [{"title": "mint tea"}, {"title": "mint tea"}, {"title": "oak"}]}

    found, _, _ = run(shop(), AugmentationSettings(filter=False, keep=1), answer=answer)
    assert found.summary["tau"] == {"food": {}, "kitchen": {}}
    assert found.generated["tau"].null_count() == 15
    assert found.generated["reason"].to_list() == ["kept", "repeated", "kept"] * 5
    assert found.generated["rank"].null_count() == 5
    assert all(len(own_items(found, user)[1]) == 2 for user in (0, 1, 2, 4, 6))


def test_repeated_items_take_no_rank_and_do_not_count_for_tau():
    def answer(request):
        return {"items": [{"title": "mint tea"}] * 3 + [{"title": "steel kettle"}, {"title": "zinc zebra"}]}

    found, _, _ = run(shop(), AugmentationSettings(tau="q0.50", keep=3), answer=answer)
    for user in found.generated["user"].unique():
        of_user = found.generated.filter(user=user)
        assert sorted(of_user["rank"].drop_nulls()) == [1, 2, 3]
        assert of_user["reason"].to_list().count("repeated") == 2
        assert of_user["anchor"].null_count() == of_user["score_source"].null_count() == 2
    for target, kinds in enumerate(found.summary["tau"].values()):
        for tau in kinds.values():
            alike = found.generated.filter(pl.col("target") == target, pl.col("tau") == tau)
            assert tau == alike["score_target"].drop_nulls().quantile(0.5, "linear")


def test_a_share_of_the_kept_items_is_injected_and_a_larger_share_holds_the_smaller():
    view = users_of_all_kinds()
    injected = []
    for share in (0.0, 0.3, 0.6, 1.0):
        settings = AugmentationSettings(tau="paper", injected=share)
        found, *_ = run(view, settings, answer=items_of_their_own)
        kept = found.generated.filter("kept")
        assert int(found.inserted.sum()) == kept.height
        left_out = found.generated.filter(reason="not injected")
        assert left_out["kept"].sum() == 0 and left_out.height + kept.height > 0
        injected.append(set(kept.select("user", "title").iter_rows()))
        passed = left_out.height + kept.height
    nothing, few, more, every = injected
    assert not nothing and few < more < every and len(every) == passed
    assert 0.1 < len(few) / len(every) < 0.5 < len(more) / len(every) < 0.8


@pytest.mark.parametrize("insertion", ["end", "random"])
def test_other_places(insertion):
    view = shop()
    settings = AugmentationSettings(tau=-1.0, keep=9, insertion=insertion)
    found, _, _ = run(view, settings)
    places = {}
    for user in range(7):
        start, end = found.sequences.offsets[[user, user + 1]]
        places[user] = np.flatnonzero(found.inserted[start:end])
        own, inserted = own_items(found, user)
        assert own == view.prefixes.of(user).tolist()
        if insertion == "end":
            assert found.sequences.of(user).tolist() == own + inserted
    limited, _, _ = run(view, settings, LLMSettings(limit_users=2))
    for user in limited.generated["user"].unique():
        for part in (found, limited):
            start, end = part.sequences.offsets[[user, user + 1]]
            np.testing.assert_array_equal(np.flatnonzero(part.inserted[start:end]), places[user])


def test_match_replaces_a_text_by_the_nearest_training_item_that_the_user_has_not_had():
    view = shop()
    found, _, _ = run(view, AugmentationSettings(tau=-1.0, keep=9, ground="match"))
    assert found.pseudo.is_empty() and len(found.pseudo_vectors) == 0
    assert found.vectors(embed(view)).shape == (25, 16)
    for row in found.generated.filter("kept").iter_rows(named=True):
        prefix = view.prefixes.of(row["user"])
        vector = text_vector(item_text({"title": row["title"], "brand": "Acme"}))
        pool = [i for i in view.training_items if i in view.domains.range(row["target"]) and i not in prefix]
        assert row["item"] == max(pool, key=lambda item: float(vector @ text_vector(TITLES[item - 1])))
    assert set(found.generated["reason"]) <= {"kept", "repeated", "no match"}
    assert found.generated.filter(user=6)["reason"].to_list()[0] == "kept"


def test_a_retriever_s_items_keep_their_numbers():
    def answer(request):
        return {"items": [{"title": TITLES[14], "id": "I15"}, {"title": TITLES[12], "id": "I13"}]}

    found, _, embedder = run(shop(), answer=answer)
    assert embedder.asked == [] or set(embedder.asked) == {TITLES[14], TITLES[12]}  # asked for by user 2 alone
    of_user_1 = found.generated.filter(user=1)
    assert of_user_1["item"].to_list() == [15, 13]
    assert of_user_1["reason"].to_list() == ["kept", "had already"]
    assert own_items(found, 1)[1] == [15]


def test_unusable_answers_are_counted_and_cost_nobody_else_anything():
    broken = {
        "U0": "sorry, no",
        "U1": {"items": "none"},
        "U2": {"items": []},
        "U4": BackendError("busy", retryable=True),
    }
    found, _, _ = run(shop(), answer=lambda request: broken.get(request.user) or items_for(request))
    assert found.summary["failed"] == {"no JSON": 1, "wrong shape": 1, "no items": 1, "no reply": 1}
    assert found.failures["user"].to_list() == [0, 1, 2, 4]
    assert set(found.generated["user"]) == {6}
    assert found.summary["asked"] == 5 and found.summary["llm"]["replies"] == 7  # three repairs
    everybody, _, _ = run(shop(), answer=lambda request: "?")
    assert everybody.summary["failed"] == {"no JSON": 5} and not everybody.inserted.any()
    with pytest.raises(BackendError, match="key"):
        run(shop(), answer=lambda request: BackendError("a wrong key"))


def test_sources_are_the_representatives_of_who_was_asked():
    view = shop()
    found, chat, _ = run(view, llm=LLMSettings(limit_users=2))
    asked = {int(request.user[1:]): request.inputs["items"] for request in chat.requests}
    assert set(found.sources["user"]) == set(asked)
    for user, position, item in found.sources.iter_rows():
        assert view.prefixes.of(user)[position] == item
        assert f"I{item}" in asked[user]
    assert len(found.sources) == sum(len(items) for items in asked.values())


def test_three_domains():
    view = shop(3)
    found, chat, _ = run(view)
    assert [(request.user, request.inputs["target_domain"]) for request in chat.requests[:2]] == [
        ("U0", "kitchen"),
        ("U0", "garden"),
    ]
    domain_of = found.domain_of(view.domains)
    for user in range(7):
        assert own_items(found, user)[0] == view.prefixes.of(user).tolist()
    assert set(domain_of[found.sequences.of(0)]) == {0, 1, 2}


def test_the_same_twice_and_saved_and_read(tmp_path):
    first, second = (run(shop(), AugmentationSettings(insertion="random"))[0] for _ in range(2))
    first.save(tmp_path)
    for other in (second, Augmentation.load(tmp_path)):
        for name in ("pseudo", "generated", "sources", "failures"):
            assert getattr(other, name).equals(getattr(first, name)), name
        np.testing.assert_array_equal(other.sequences.items, first.sequences.items)
        np.testing.assert_array_equal(other.sequences.offsets, first.sequences.offsets)
        np.testing.assert_array_equal(other.inserted, first.inserted)
        np.testing.assert_array_equal(other.pseudo_vectors, first.pseudo_vectors)
        assert other.summary == first.summary
    first.generated.drop("tau").write_parquet(tmp_path / "generated.parquet")
    write_json(tmp_path / "summary.json", {"tau": 0.75})
    assert Augmentation.load(tmp_path).generated["tau"].to_list() == [0.75] * len(first.generated)
    (tmp_path / "generated.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        Augmentation.load(tmp_path)


@pytest.mark.parametrize(
    "view", [make_view([[], []], [2, 2]), make_view([[1, 2]], [2, 0]), make_view([[1]], [1, 1], [None, None])]
)
def test_nobody_to_ask(view, tmp_path):
    found, chat, _ = run(view)
    assert chat.requests == [] and not found.inserted.any()
    assert found.sequences.items.tolist() == view.prefixes.items.tolist()
    assert found.summary["generated"] == 0 and found.generated.is_empty()
    found.save(tmp_path)
    assert Augmentation.load(tmp_path).sequences.offsets.tolist() == view.prefixes.offsets.tolist()


def test_off_is_the_training_prefixes(tmp_path):
    view = shop()
    found, chat, _ = run(view, AugmentationSettings(enabled=False))
    assert (
        chat.requests
        == list(planned_requests(view, embed(view), AugmentationSettings(enabled=False), LLMSettings()))
        == []
    )
    assert found.sequences == view.prefixes and not found.inserted.any()
    assert found.vectors(embed(view)).shape == (25, 16)
    found.save(tmp_path)
    assert Augmentation.load(tmp_path).generated.schema == found.generated.schema


def test_how_often_the_cosine_agrees_with_the_purchase_that_the_reply_names():
    def answer(request):
        texts = request.inputs["texts"]
        named = {"one": len(texts), "two": 1, "three": 99}
        return {"items": [{"title": f"{texts[-1]} {word}", "purchase": at} for word, at in named.items()]}

    found, _, _ = run(shop(), answer=answer)
    anchors = found.summary["anchors"]
    several = list(planned_requests(shop(), embed(shop()), KEEP_ALL, LLMSettings()))
    assert anchors["named"] == 2 * len(several), "a number that no purchase has counts as none"
    alone = sum(len(request.inputs["texts"]) == 1 for request in several)
    assert anchors["agree"] == len(several) + alone
    assert "anchors" not in run(shop())[0].summary
