"""Ranks against a slow count, candidates, ties, what a question holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import batch_of, dataset, domains_of_size, model_of, random_dataset, sequences, text_table

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import ModelSettings, TrainingSettings
from edt_cli.data.dataset import Sequences
from edt_cli.evaluation.candidates import candidates, draw_candidates
from edt_cli.evaluation.groups import user_groups
from edt_cli.evaluation.queries import complete_histories, eval_queries
from edt_cli.evaluation.ranking import Diverged, rank
from edt_cli.models.batch import DeviceSequences, domain_rows, item_table, last_state, only_domain
from edt_cli.models.inputs import ModelInputs, NoOptions
from edt_cli.models.item_knn import ItemKNN
from edt_cli.workspace.layout import Workspace, digest


class Table:
    """Scores of one's own: [n, 1 + N]."""

    def __init__(self, made, scores: np.ndarray) -> None:
        self.domains, self.values = made.domains, torch.from_numpy(scores)

    def scores(self, rows: torch.Tensor, domain: int) -> torch.Tensor:
        items = self.domains.range(domain)
        return self.values[rows, items.start : items.stop].clone()


def asked_of(made, split="test", keep_seen=False):
    return eval_queries(made, split, made.training_view().prefixes, keep_seen=keep_seen)


@pytest.mark.parametrize("keep_seen", [False, True])
@pytest.mark.parametrize("domains", ["ab", "abc"])
def test_ranks_are_those_of_a_slow_count(domains, keep_seen):
    made = random_dataset(users=60, items=9, domains=domains)
    asked = asked_of(made, keep_seen=keep_seen)
    # Few different scores, so that ties are many.
    values = np.random.default_rng(3).integers(0, 5, size=(len(asked), made.domains.items + 1)).astype(float)
    drawn = draw_candidates(asked, 4, seed=1)
    found = rank(Table(made, values), asked, candidates={"few": drawn, "fewer": drawn[:, :2]}, top=3)
    for row, (target, domain) in enumerate(zip(asked.targets.items, asked.targets.domains, strict=True)):
        own = values[row, target]
        items = made.domains.range(domain)
        seen = set(asked.history.of(row).tolist())
        pool = [item for item in items if item != target and (keep_seen or item not in seen)]
        higher = sum(values[row, item] > own for item in pool)
        same = sum(values[row, item] == own for item in pool)
        assert found.full[row] == 1 + higher + same / 2
        for name, columns in (("few", drawn[row]), ("fewer", drawn[row, :2])):
            few = [items.start + column for column in columns if column >= 0]
            expected = 1 + sum(values[row, i] > own for i in few) + sum(values[row, i] == own for i in few) / 2
            assert found.by_protocol[name][row] == expected
        best = [item for item in found.top[row] if item]
        assert all(item in [*pool, target] for item in best)
        assert [values[row, item] for item in best] == sorted(
            (values[row, i] for i in [*pool, target]), reverse=True
        )[:3]


def test_candidates_are_new_to_the_user_without_repetition_and_not_the_target():
    made = random_dataset(users=60, items=12)
    asked = asked_of(made)
    drawn = draw_candidates(asked, 5, seed=1)
    for row in range(len(asked)):
        items = made.domains.range(asked.targets.domains[row])
        got = [items.start + column for column in drawn[row] if column >= 0]
        free = set(items) - set(asked.history.of(row).tolist()) - {asked.targets.items[row]}
        assert len(set(got)) == len(got) == min(5, len(free))
        assert set(got) <= free


def test_where_seen_items_stay_candidates_they_are_drawn_like_all_others():
    made = dataset(
        {f"u{i}": ["a0", "a1", "a2", "a1"] for i in range(3000)} | {"other": [f"a{i}" for i in range(9)]}
    )
    asked = asked_of(made, keep_seen=True)
    drawn = draw_candidates(asked, 3, seed=1)[1:]
    counts = np.bincount(drawn.flatten(), minlength=9)
    assert counts[1] == 0, "the target itself"
    assert np.abs(np.delete(counts, 1) - 3000 * 3 / 8).max() < 5 * 1125**0.5


def test_candidates_are_uniform():
    made = dataset({f"u{i}": ["a0", "a1", "a2"] for i in range(3000)} | {"other": [f"a{i}" for i in range(9)]})
    asked = asked_of(made)
    drawn = draw_candidates(asked, 2, seed=1)[1:]
    counts = np.bincount(drawn.flatten(), minlength=9)
    assert counts[:3].sum() == 0
    assert np.abs(counts[3:] - 1000).max() < 5 * 1000**0.5


def test_by_popularity_an_item_is_the_first_drawn_as_often_as_it_is_popular():
    """And none is drawn that nobody has in training, however few are left."""
    others = {f"o{n}": ["a3"] * 6 for n in range(3)} | {"p": ["a4"] * 6}
    others |= {"q": ["a5", "a5", "a6", "a7", "a8"]}  # the last two are held out
    made = dataset({f"u{i:04}": ["a0", "a1", "a2"] for i in range(4000)} | others)
    weights = made.training_view().popularity()
    asked = asked_of(made)
    assert weights[4:].tolist() == [12, 4, 2, 1, 0, 0]
    mine = asked.targets.users > 4
    first = np.bincount(draw_candidates(asked, 1, 1, weights)[mine].flatten(), minlength=9)
    expected = 4000 * np.array([0, 0, 0, 12, 4, 2, 1, 0, 0]) / 19
    assert (np.abs(first - expected) <= 5 * np.sqrt(np.maximum(expected, 0))).all()
    every = draw_candidates(asked, 6, 1, weights)[mine]
    assert (np.sort(every, axis=1) == [-1, -1, 3, 4, 5, 6]).all()


def test_candidates_by_popularity_are_others_and_leave_the_uniform_ones_as_they_were(tmp_path):
    made, place = random_dataset(), Workspace(tmp_path)
    uniform = candidates(place, made, "test", 5)
    popular = candidates(place, made, "test", 5, protocol="popular")
    assert not (popular == uniform).all()
    assert (candidates(place, made, "test", 5, protocol="popular") == popular).all()
    assert (candidates(Workspace(tmp_path / "other"), made, "test", 5, protocol="popular") == popular).all()
    assert (candidates(place, made, "test", 5) == uniform).all()
    assert len(place.all_artefacts()) == 2


def test_candidates_are_drawn_once_for_dataset_protocol_and_data_seed(tmp_path):
    made = random_dataset()
    place = Workspace(tmp_path)
    first = candidates(place, made, "test", 5)
    assert (candidates(Workspace(tmp_path / "other"), made, "test", 5) == first).all()
    (artefact,) = place.all_artefacts()
    stamp = (artefact.path / "columns.safetensors").stat().st_mtime_ns
    candidates(place, made, "test", 5)
    assert (artefact.path / "columns.safetensors").stat().st_mtime_ns == stamp
    other_seed = random_dataset()
    object.__setattr__(other_seed, "settings", made.settings.model_copy(update={"seed": 7}))
    assert not (candidates(Workspace(tmp_path / "third"), other_seed, "test", 5) == first).all()
    assert artefact.key == digest(made.key, "test", 5), "a key that candidates had before repeats were looked at"
    asked, seed = asked_of(made, keep_seen=True), int(digest(made.settings.seed, "test", 5)[:12], 16)
    kept = candidates(place, made, "test", 5, keep_seen=True)
    assert (kept == draw_candidates(asked, 5, seed)).all() and not (kept == first).all()
    assert (candidates(place, made, "test", 5) == first).all()


def test_the_target_is_a_candidate_even_if_the_user_has_had_it():
    made = dataset({"u": ["a1", "a2", "a3", "a1"], "v": ["a4", "a5", "a6"]})
    asked = asked_of(made)
    values = np.arange(7, dtype=float)[None].repeat(2, 0)
    values[0, 1] = 100
    assert rank(Table(made, values), asked).full[0] == 1


def test_a_repeat_gets_no_free_ride():
    """Item-kNN on a log of repeats: it cannot tell which of what a user had comes again, and must not be told by
    leaving the others out."""
    draw = np.random.default_rng(0)
    histories: dict[str, list[str]] = {}
    for user in range(300):
        own = histories[f"u{user}"] = []
        shelf = draw.choice(4) * 20
        for _ in range(12):
            again = own and draw.random() < 0.25
            own.append(str(draw.choice(own)) if again else f"a{shelf + draw.integers(20)}")
    made = dataset(histories)
    repeats = made.repeats("test")
    assert 0.2 < repeats.mean() < 0.6 and made.keeps_seen()
    hits = {}
    for keep_seen in (False, made.keeps_seen()):
        asked = asked_of(made, keep_seen=keep_seen)
        view = made.training_view()
        table = item_table(made.domains, view.prefixes)
        knn = ItemKNN(ModelInputs(table, ModelSettings(), TrainingSettings(), NoOptions(), view=view))
        scorer = knn.scorer(asked.inputs, asked.targets.domains)
        drawn = draw_candidates(asked, 60, seed=1)
        ranks = rank(scorer, asked, candidates={"sampled": drawn})
        hits[keep_seen] = [np.mean(of_users[repeats] <= 3) for of_users in ranks.by_protocol.values()]
    assert (np.array(hits[False]) > np.array(hits[True]) + 0.2).all(), hits


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_an_error(bad):
    made = random_dataset()
    asked = asked_of(made)
    values = np.zeros((len(asked), made.domains.items + 1))
    values[3, 2:] = bad
    with pytest.raises(Diverged, match="no number"):
        rank(Table(made, values), asked)


def test_equal_scores_for_all_favour_nobody():
    made = dataset({f"u{i}": ["a0", "a1", "a2"] for i in range(5)} | {"other": [f"a{i}" for i in range(9)]})
    asked = asked_of(made)
    found = rank(Table(made, np.zeros((len(asked), 10))), asked)
    assert found.full[1] == (1 + 7) / 2  # seven candidates: nine items less the two that were had


def test_a_question_holds_everything_before_the_target_and_nothing_after():
    made = random_dataset()
    prefixes = made.training_view().prefixes
    for split, after in (("valid", 2), ("test", 1)):
        asked = eval_queries(made, split, prefixes)
        for row, user in enumerate(asked.targets.users):
            whole = made.sequences.of(user)
            assert asked.history.of(row).tolist() == whole[: len(whole) - after].tolist()
            assert asked.inputs.of(row).tolist() == asked.history.of(row).tolist()
            assert asked.targets.items[row] == whole[len(whole) - after]


def test_what_was_inserted_stands_inside_the_training_prefix_only():
    made = dataset({"u": ["a1", "b1", "a2", "b2", "a3"], "v": ["a1", "b2", "b3"]})
    prefixes = made.training_view().prefixes
    assert [prefixes.of(0).tolist(), prefixes.of(1).tolist()] == [[1, 4, 2], [1]]
    augmented = Sequences(np.array([0, 5, 7]), np.array([1, 6, 4, 2, 9, 1, 9]))
    asked = eval_queries(made, "test", augmented)
    assert asked.inputs.of(0).tolist() == [1, 6, 4, 2, 9, 5]
    assert asked.history.of(0).tolist() == [1, 4, 2, 5]
    assert asked.inputs.of(1).tolist() == [1, 9, 5]
    inputs, history = complete_histories(made, np.array([1, 0]), augmented, made.train_lengths)
    assert inputs.of(0).tolist() == [1, 9, 5, 6]
    assert inputs.of(1).tolist() == [1, 6, 4, 2, 9, 5, 3]
    assert history.of(1).tolist() == [1, 4, 2, 5, 3]


def test_what_a_model_looks_at_keeps_its_times():
    """Rows, parts of them and one domain of them; what was inserted has the time of the item before it."""
    made = dataset({"u": ["a1", "b1", "a2", "b2", "a3"], "v": ["a1", "b2", "b3"]}, apart=1)
    prefixes = made.training_view().prefixes
    assert [prefixes.times.tolist(), prefixes.items.tolist()] == [[1000, 1001, 1002, 1000], [1, 4, 2, 1]]
    inserted = np.array([True, False, True, False, False, True, False, True])
    rows = Sequences(np.array([0, 6, 8]), np.array([9, 1, 6, 4, 2, 9, 1, 9]))
    augmented = replace(Augmentation.none(made.training_view()), sequences=rows, inserted=inserted).timed(prefixes)
    assert augmented.times.tolist() == [1000, 1000, 1000, 1001, 1002, 1002, 1000, 1000]
    asked = eval_queries(made, "test", augmented)
    assert asked.history.times.tolist() == [1000, 1001, 1002, 1003, 1000, 1001]
    assert asked.inputs.rows(np.array([1, 0])).times.tolist() == [1000, 1000, 1001, *augmented.times[:6], 1003]
    own = only_domain(asked.history, np.array([1, 0]), made.domains.of(np.arange(7)))
    assert own.times.tolist() == [1001, 1003, 1000]
    table = item_table(made.domains, prefixes)
    batch = DeviceSequences(asked.history, table, max_length=3).batch(torch.tensor([1, 0]))
    assert batch.times.tolist() == [[1000, 1001, 0], [1001, 1002, 1003]]
    assert domain_rows(asked.history, table).times.tolist() == [1000, 1002, 1001, 1003, 1000, 1001]


def test_a_single_domain_system_sees_one_domain():
    found = only_domain(
        Sequences(np.array([0, 3, 3, 5]), np.array([1, 4, 2, 4, 1])), np.array([0, 1, 1]), np.array([0, 0, 0, 0, 1])
    )
    assert [found.of(row).tolist() for row in range(3)] == [[1, 2], [], [4]]


def test_groups_part_the_users():
    made = random_dataset(users=80)
    asked = asked_of(made)
    has_text = np.ones(made.domains.items + 1, dtype=bool)
    has_text[3] = False
    for labels in user_groups(made, asked, has_text).values():
        assert (sum(members.astype(int) for members in labels.values()) == 1).all()
    lengths = user_groups(made, asked, has_text)["length"]
    assert (lengths["[5,10)"] == ((asked.history.lengths >= 5) & (asked.history.lengths < 10))).all()


@pytest.mark.parametrize("kind", ["sasrec", "bert4rec", "llm-edt"])
def test_a_history_is_asked_at_positions_that_training_had(kind):
    """Of rows of seven items six come before a target: what stands further back is not looked at."""
    domains = domains_of_size(6, 5)
    long = sequences([4, 9, 1, 7, 3, 8, 2, 10, 5], [3, 8, 2])
    table = text_table(domains, long)
    model = model_of(kind, table)
    assert model.context_length == 6
    newest = batch_of(table, sequences([7, 3, 8, 2, 10, 5], [3, 8, 2]))
    with torch.no_grad():
        for domain in range(2):
            asked = replace(newest, domains=torch.full_like(newest.domains, domain))
            expected = last_state(model.encode_positions(asked), newest.lengths)
            scorer = model.scorer(long, np.full(2, domain))
            items = domains.range(domain)
            vectors = model.encode_items(torch.arange(items.start, items.stop))
            found = scorer.scores(torch.arange(2), domain)
            torch.testing.assert_close(found, expected @ vectors.T, atol=1e-5, rtol=1e-4)
