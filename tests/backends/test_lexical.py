from __future__ import annotations

import json
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edt_backends.base import BackendError
from edt_backends.lexical import COMPONENTS, GRAM_FILE, WEIGHT_FILE, LexicalMap

NOUNS = ("teapot", "kettle", "skillet", "grater", "cookies", "olives")
MAKES = ("Stash", "Lodge", "Numi", "Zyliss")
TEXTS = [f"{make} {noun}, {size} oz" for make in MAKES for noun in NOUNS for size in (8, 16)]


@pytest.fixture(scope="module")
def fitted() -> LexicalMap:
    return LexicalMap.fit(TEXTS)


def grams_of(text: str) -> tuple[Counter[str], Counter[str]]:
    """Words and pairs of them; three to five characters of each word, which a space precedes and follows."""
    words = re.findall(r"\b\w\w+\b", text.lower())
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    characters: Counter[str] = Counter()
    for word in text.lower().split():
        padded = f" {word} "
        for size in (3, 4, 5):
            if len(padded) <= size:
                characters[padded] += 1
                break
            characters.update(padded[at : at + size] for at in range(len(padded) - size + 1))
    return Counter(words + pairs), characters


def slow_tfidf(texts: list[str], corpus: list[str], grams: tuple[list[str], ...]) -> np.ndarray:
    """(1 + log tf) (1 + log((1 + n) / (1 + df))), [words; characters], each of length one."""
    known = [grams_of(text) for text in corpus]
    rows = []
    for text in texts:
        row = []
        for counts, of_kind, kind in zip(grams_of(text), grams, (0, 1), strict=True):
            block = [
                (1 + math.log(counts[gram]))
                * (1 + math.log((1 + len(corpus)) / (1 + sum(gram in one[kind] for one in known))))
                if counts[gram]
                else 0.0
                for gram in of_kind
            ]
            length = math.sqrt(sum(value**2 for value in block)) or 1.0
            row += [value / length for value in block]
        rows.append(row)
    return np.array(rows)


def test_it_is_tfidf_on_the_axes_of_an_exact_decomposition(fitted):
    known = [grams_of(text) for text in TEXTS]
    for kind, grams in enumerate(fitted.grams):
        shared = Counter(gram for one in known for gram in one[kind])
        assert grams == sorted(gram for gram, texts in shared.items() if texts >= 2)
    x = slow_tfidf(TEXTS, TEXTS, fitted.grams)
    _, values, axes = np.linalg.svd(x, full_matrices=False)
    rank = fitted.components.shape[1]
    assert rank == np.sum(values > 0.01 * values[0]) < len(TEXTS)
    later = ["Numi teapot, 16 oz", "a grater by Lodge", "oz oz oz kettle"]
    expected = slow_tfidf(TEXTS + later, TEXTS, fitted.grams) @ axes[:rank].T / np.sqrt(values[:rank])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = fitted.vectors(TEXTS + later)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS) + 3, COMPONENTS)
    # Whatever the signs, and the axes of equal singular values: their cosines.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)
    assert not found[:, rank:].any()


def test_the_rounded_components_are_the_map(fitted):
    x = slow_tfidf(TEXTS, TEXTS, fitted.grams) @ fitted.components.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.vectors(TEXTS)[:, : x.shape[1]], x, atol=1e-5)


def test_alike_in_wording_is_near(fitted):
    one, other, far = fitted.vectors(["Stash teapot, 8 oz", "teapots of Stash", "Lodge skillet, 16 oz"])
    assert one @ other > 0.4 > one @ far


def test_a_text_has_one_vector_in_any_company_and_order_of_the_corpus(fitted):
    alone = np.concatenate([fitted.vectors([text]) for text in TEXTS])
    np.testing.assert_array_equal(alone, fitted.vectors(TEXTS))
    again = LexicalMap.fit([*reversed(TEXTS), *TEXTS[:5]])
    assert again.grams == fitted.grams
    np.testing.assert_array_equal(again.components, fitted.components)
    np.testing.assert_array_equal(again.idf, fitted.idf)


def test_what_is_saved_is_the_map_and_no_pickle(fitted, tmp_path):
    fitted.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {GRAM_FILE, WEIGHT_FILE}
    assert json.loads((tmp_path / GRAM_FILE).read_text()) == [*fitted.grams]
    assert load_file(tmp_path / WEIGHT_FILE)["components"].dtype == np.float16
    later = [*TEXTS, "something else", "грибы", ""]
    np.testing.assert_array_equal(LexicalMap.load(tmp_path).vectors(later), fitted.vectors(later))


@pytest.mark.parametrize(
    "texts",
    [[], ["tea"], ["tea", "pan"], ["", " ", "!"], ["ab", "ab"], ["?? ??", "?? ?!"], ["tea"] * 9],
    ids=["none", "one", "apart", "blank", "equal", "no words", "nine alike"],
)
def test_a_corpus_that_shares_hardly_anything(texts, tmp_path):
    fitted = LexicalMap.fit(texts)
    fitted.save(tmp_path)
    found = LexicalMap.load(tmp_path).vectors([*texts, "tea", "чай"])
    assert found.shape == (len(texts) + 2, COMPONENTS) and np.isfinite(found).all()
    lengths = np.linalg.norm(found, axis=1)
    assert ((lengths == 0) | np.isclose(lengths, 1, atol=1e-5)).all()


def test_other_scripts_are_texts_too():
    texts = ["чай зелёный", "чай чёрный", "緑茶 ティーバッグ", "緑茶 缶", "شاي أخضر", "شاي أسود"]
    found = LexicalMap.fit(texts).vectors(texts)
    cosines = found @ found.T
    assert min(cosines[0, 1], cosines[2, 3], cosines[4, 5]) > 0.2
    assert np.abs(cosines[:2, 2:]).max() < 0.1


def test_a_large_corpus_is_sampled(monkeypatch):
    monkeypatch.setattr("edt_backends.lexical.SAMPLE", 20)
    fitted = LexicalMap.fit(TEXTS)
    assert fitted.components.shape[1] <= 20
    np.testing.assert_array_equal(fitted.components, LexicalMap.fit(TEXTS[::-1]).components)


def drop(folder, name):
    (folder / name).unlink()


def cut(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])


def fewer_grams(folder, _):
    words, characters = json.loads((folder / GRAM_FILE).read_text())
    (folder / GRAM_FILE).write_text(json.dumps([words[1:], characters]))


def twice_a_gram(folder, _):
    words, characters = json.loads((folder / GRAM_FILE).read_text())
    (folder / GRAM_FILE).write_text(json.dumps([[words[1], *words[1:]], characters]))


def no_grams(folder, _):
    (folder / GRAM_FILE).write_text("3")


def no_number(folder, _):
    tensors = load_file(folder / WEIGHT_FILE)
    tensors["idf"][0] = np.nan
    save_file(tensors, folder / WEIGHT_FILE)


def flat(folder, _):
    tensors = load_file(folder / WEIGHT_FILE)
    save_file(tensors | {"components": tensors["components"][:, 0].copy()}, folder / WEIGHT_FILE)


def too_wide(folder, _):
    tensors = load_file(folder / WEIGHT_FILE)
    wide = np.zeros((len(tensors["idf"]), COMPONENTS + 1), np.float16)
    save_file(tensors | {"components": wide}, folder / WEIGHT_FILE)


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        *((harm, name) for harm in (drop, cut) for name in (GRAM_FILE, WEIGHT_FILE)),
        *((harm, "") for harm in (fewer_grams, twice_a_gram, no_grams, no_number, flat, too_wide)),
    ],
)
def test_a_damaged_map_is_one_line(fitted, tmp_path, harm, name):
    fitted.save(tmp_path)
    harm(tmp_path, name)
    with pytest.raises(BackendError, match="is damaged") as caught:
        LexicalMap.load(tmp_path)
    assert "\n" not in str(caught.value)
