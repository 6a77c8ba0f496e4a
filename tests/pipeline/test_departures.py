"""Departures that change what a model is made from: profiles that saw the validation item, and the unsound ones."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from test_audit import SMALL, prepared
from toy import dataset

from edt_cli.audit.run import audit
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.augmentation.insertion import insert
from edt_cli.config import EvaluationSettings, UsageError, UserError, load_settings
from edt_cli.data.dataset import TEXT_FIELDS, load
from edt_cli.experiments.compare import Comparison, collect_results
from edt_cli.experiments.plan import Plan
from edt_cli.inference.listing import read_run
from edt_cli.inference.results import evaluate
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.unsound import unsound_data
from edt_cli.reporting.comparison import comparison_tables
from edt_cli.ui.library import main_results_of
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run, find_runs

pytestmark = pytest.mark.e2e

HISTORIES = {"u": ["a0", "b1", "a2", "b0"], "v": ["b0", "a1", "b1", "a0", "b2"]}


def augmented(lengths: np.ndarray) -> tuple[Augmentation, ItemEmbeddings]:
    """A generated item of domain a after the last item of user u, and one of b before all of user v's."""
    made = dataset(HISTORIES)
    view = made.training_view()
    prefixes = made.sequences.prefixes(lengths)
    pseudo = pl.DataFrame(
        {"number": [7, 8], "domain": [0, 1], **{name: [f"{name} 7", f"{name} 8"] for name in TEXT_FIELDS}}
    )
    gaps = np.array([prefixes.lengths[0], 0])
    sequences, inserted = insert(prefixes, np.array([0, 1]), gaps, np.ones(2), np.array([7, 8]))
    none = Augmentation.none(view).__dict__
    vectors = np.zeros((9, 9), np.float32)
    vectors[np.arange(1, 9), np.arange(1, 9)] = 1
    changes = {"sequences": sequences, "inserted": inserted, "pseudo": pseudo, "pseudo_vectors": vectors[7:]}
    return Augmentation(**{**none, **changes}), ItemEmbeddings(vectors[:7], (vectors[:7] != 0).any(1))


def names(data, items: np.ndarray) -> list[str]:
    return [data.dataset.catalogue["id"][int(item) - 1] for item in items]


def test_generated_items_become_candidates_and_nothing_else_changes():
    made = dataset(HISTORIES)
    augmentation, embeddings = augmented(made.train_lengths)
    data = unsound_data("generated-candidates", made, augmentation, embeddings, None, key="k", device="cpu")
    assert names(data, np.arange(1, 9)) == ["a0", "a1", "a2", "generated-7", "b0", "b1", "b2", "generated-8"]
    assert [len(data.dataset.domains.range(domain)) for domain in range(2)] == [4, 4] and data.table.catalogue == 8
    assert names(data, data.sequences.of(0)) == ["a0", "b1", "generated-7"]
    assert names(data, data.sequences.of(1)) == ["generated-8", "b0", "a1", "b1"]
    for split in ("valid", "test"):
        before = [made.catalogue["id"][int(item) - 1] for item in made.targets(split).items]
        assert names(data, data.dataset.targets(split).items) == before
    of_text = data.table.text.numpy()
    for number, name in enumerate(names(data, np.arange(1, 9)), start=1):
        old = (
            int(name[-1]) if name.startswith("generated") else 1 + ["a0", "a1", "a2", "b0", "b1", "b2"].index(name)
        )
        assert of_text[number].argmax() == old
    queries = data.queries("test")
    assert names(data, queries.inputs.of(0)) == ["a0", "b1", "generated-7", "a2"]
    assert data.dataset.key != made.key
    with pytest.raises(UserError, match="no generated items"):
        unsound_data(
            "generated-candidates",
            made,
            Augmentation.none(made.training_view()),
            embeddings,
            None,
            key="k",
            device="cpu",
        )


def test_a_split_after_augmentation_has_inserted_items_for_targets():
    made = dataset(HISTORIES)
    augmentation, embeddings = augmented(made.sequences.lengths)
    data = unsound_data("split-after-augmentation", made, augmentation, embeddings, None, key="k", device="cpu")
    assert names(data, data.dataset.targets("test").items) == ["generated-7", "b2"]
    assert names(data, data.dataset.targets("valid").items) == ["b0", "a0"]
    assert names(data, data.sequences.of(0)) == ["a0", "b1", "a2"]
    assert names(data, data.sequences.of(1)) == ["generated-8", "b0", "a1", "b1"]
    assert (np.diff(data.dataset.times[data.dataset.sequences.users == 1]) >= 0).all()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return prepared(tmp_path_factory.mktemp("departures"))


def pipeline(workspace: Workspace, **options: object) -> Pipeline:
    settings = load_settings(
        "llm-edt-ce", flags={**SMALL, "options": {**SMALL["options"], **options}}, environment={}
    )
    return Pipeline(workspace, load(workspace.dataset("tiny")), settings, preset="llm-edt-ce")


def test_profiles_that_saw_the_validation_item_saw_that_alone(workspace):
    honest, departed = pipeline(workspace), pipeline(workspace, profiles_see_validation=True)
    assert departed.augmentation_key == honest.augmentation_key and departed.profiles_key != honest.profiles_key
    lengths = honest.view.prefixes.lengths
    for made, most in ((honest, 0), (departed, 1)):
        sources = made.profiles().sources
        beyond = sources["position"].to_numpy() - lengths[sources["user"].to_numpy()]
        assert beyond.max() == most - 1
    shown = sources.filter(pl.Series(beyond == 0))
    assert shown["item"].to_list() == [
        int(honest.dataset.sequences.of(user)[lengths[user]]) for user in shown["user"].to_list()
    ]
    assert len(shown) == len(lengths), "of every user"


def unsound_run(workspace: Workspace) -> Run:
    run = pipeline(workspace, unsound="split-after-augmentation").run()
    evaluate(workspace, run, "test", EvaluationSettings(), Events())
    return run


def test_an_unsound_run_is_marked_and_shown_by_its_plan_alone(workspace):
    honest = pipeline(workspace).run()
    evaluate(workspace, honest, "test", EvaluationSettings(), Events())
    run = unsound_run(workspace)
    assert run.manifest()["unsound"].startswith("not a result: ")
    assert {document["unsound"] for document in run.results()} == {"split-after-augmentation"}
    assert run.plan["artefacts"]["profiles"] == honest.plan["artefacts"]["profiles"]
    assert run.plan["artefacts"]["augmentation"] != honest.plan["artefacts"]["augmentation"]
    assert [one.name for one in find_runs(workspace, "tiny")] == [honest.name]
    with pytest.raises(UserError, match="not a result"):
        find_runs(workspace, None, [run.name])
    assert not main_results_of(run.folder) and not read_run(run.folder).figures and read_run(honest.folder).figures
    with pytest.raises(UserError, match="no figures but those that are there"):
        evaluate(workspace, run, "test", EvaluationSettings(cutoffs=(3,)), Events())

    systems = [
        {"model": "llm-edt", "options": SMALL["options"]},
        {
            "model": "llm-edt",
            "label": "unsound: split",
            "options": {**SMALL["options"], "unsound": "split-after-augmentation"},
        },
    ]
    training = {name: value for name, value in SMALL["training"].items() if name != "epochs"}
    values = {
        "data": ["tiny"],
        "preset": "llm-edt-ce",
        "against": "each",
        "systems": systems,
        "budget": {"epochs": SMALL["training"]["epochs"]},
        "settings": {"model": SMALL["model"], "training": training},
    }
    with pytest.raises(UsageError, match="only the plan departures"):
        Comparison.open(workspace, Plan.model_validate(values))
    result = collect_results(Comparison.open(workspace, Plan.model_validate({**values, "departures": True})))
    assert {outcome["run"] for outcome in result.outcomes} == {honest.name, run.name}
    assert result.claims == []
    tables = comparison_tables(result.grid, result.outcomes, result.claims)
    titles = [table.title.partition(" on tiny")[0] for table in tables]
    worth, not_a_result = (
        "What departures of the authors' released code are worth",
        "Unsound: not a result. Departures that change what is ranked",
    )
    assert titles == [worth, not_a_result, worth, not_a_result, "What each system took"]
    assert [row.label for row in tables[0].rows] == ["LLM-EDT (llm-edt-ce), local (no LLM)"] or len(
        tables[0].rows
    ) == 1
    assert tables[1].rows[1].label.startswith("unsound: split") and not tables[1].marked
    assert any("inserted items are targets" in note for note in tables[1].notes)

    found = audit(workspace, run)
    problems = [f"{problem.step}: {problem.said}" for problem in found.problems]
    assert any(problem.startswith("protocol: unsound, not a result") for problem in problems)
    assert any("leak check" in problem for problem in problems)
