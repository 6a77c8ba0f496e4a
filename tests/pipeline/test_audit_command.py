"""The audit of a run: an honest one passes and is made again to the last digit, a tampered one is found out."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file
from test_data_cli import edt as edt  # the command in this process
from test_data_cli import shops as shops
from toy import prepared, random_dataset

from edt_cli.audit import chain
from edt_cli.audit.again import compare_training, repeated
from edt_cli.audit.run import audit
from edt_cli.augmentation.audit import check_sources
from edt_cli.config import EvaluationSettings, Settings, UsageError, UserError, load_settings
from edt_cli.data.saved import load
from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.plan import Plan
from edt_cli.experiments.plan_results import collect_results
from edt_cli.inference.listing import read_run
from edt_cli.inference.results import evaluate
from edt_cli.pipeline import Pipeline
from edt_cli.reporting.comparison import comparison_tables
from edt_cli.ui.library import main_results_of
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace, file_digests, read_json, write_json
from edt_cli.workspace.runs import Run, all_runs, find_runs

pytestmark = pytest.mark.e2e

SMALL = {
    "model": {"hidden": 8, "blocks": 1, "max_length": 12, "encoder": "id"},
    "training": {"epochs": 2, "batch": 16, "negatives": 8, "min_steps": 0},
    "options": {"finetune_epochs": 2, "finetune_min_steps": 0, "adapter": 4},
}


@pytest.fixture(scope="module", autouse=True)
def _plain_profiles():
    """Whitening takes a third of a second for each model that is made, and nothing here rests on it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("edt_cli.models.profiled.whiten", lambda vectors, among: vectors)
        yield


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Workspace:
    """LLM-EDT with both LLM stages and both phases on toy data, evaluated."""
    workspace = prepared(tmp_path_factory.mktemp("audit"), random_dataset())
    run = pipeline(workspace).run()
    evaluate(workspace, run, "test", EvaluationSettings(), Events())
    return workspace


@pytest.fixture
def copy(honest, tmp_path) -> Workspace:
    shutil.copytree(honest.root, tmp_path / "ws", dirs_exist_ok=True)
    return Workspace(tmp_path / "ws")


def only_run(workspace: Workspace) -> Run:
    (run,) = all_runs(workspace)
    return run


def artefact(workspace: Workspace, kind: str) -> Path:
    (folder,) = (path for path in (workspace.artefacts / kind).iterdir() if path.is_dir())
    return folder


def contents(workspace: Workspace) -> dict[Path, bytes]:
    """All files but those of the cache, whose readers leave their marks."""
    folders = (workspace.data, workspace.artefacts, workspace.runs)
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_an_honest_run_passes_and_is_made_again_beside_itself(honest):
    run = only_run(honest)
    before = contents(honest)
    found = audit(honest, run, again=True)
    assert not found.problems
    document = found.document()
    steps = {part: [check["step"] for check in document[part] if check["passed"]] for part in ("chain", "leaks")}
    assert set(steps["chain"]) >= {"dataset", "embeddings", "augmentation", "profiles", "run", "results"}
    assert set(steps["leaks"]) == {"training", "augmentation", "profiles", "ranking", "model"}
    assert "21 losses and validation figures of 5 validations" in found.again[0].said
    assert all(check.passed for check in found.again) and len(found.again) == 1 + 2 + 4
    assert [cell["domain"] for cell in found.cells if cell["file"] == "test-full"] == ["a", "b"]
    assert found.command[:3] == ["train", "--data", "tiny"]
    assert contents(honest) == before, "nothing is touched"
    assert not list(honest.root.glob(".scratch-*"))


def rewritten(path: Path, **columns: pl.Expr) -> None:
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


def change(path: Path, section: str, name: str, value: float) -> None:
    plan = read_json(path)
    plan["settings"][section][name] = value
    write_json(path, plan)


def with_digests(folder: Path) -> None:
    """The digests of the files as they are now."""
    write_json(folder / "manifest.json", read_json(folder / "manifest.json") | {"files": file_digests(folder)})


def test_results_that_were_changed_and_a_leak_whose_digests_fit_are_found(copy):
    run = only_run(copy)
    results = run.folder / "results"
    document = read_json(results / "test-full.json")
    document["domains"]["a"]["ndcg@10"] += 0.01
    del document["groups"]["total"]  # as before there was that grouping
    write_json(results / "test-full.json", document)
    ranks = pl.col("rank_sampled")
    best = pl.when(pl.int_range(pl.len()) == ranks.arg_max()).then(1.0).otherwise(ranks)
    rewritten(results / "test-sampled-100-ranks.parquet", rank_sampled=best)
    rewritten(results / "test-full-without-dft-lists.parquet", top=pl.col("top").reverse())
    drawn = artefact(copy, "candidates") / "columns.safetensors"
    save_file({"columns": np.roll(load_file(drawn)["columns"], 1, axis=0)}, drawn)

    profiles = artefact(copy, "profiles")
    end = int(load(copy.dataset("tiny")).train_lengths[0])
    planted = pl.DataFrame({"user": [0], "position": [end], "item": [1]})
    pl.concat([pl.read_parquet(profiles / "sources.parquet"), planted]).write_parquet(profiles / "sources.parquet")
    with_digests(profiles)
    manifest = read_json(run.folder / "manifest.json")
    write_json(run.folder / "manifest.json", {**manifest, "made_from": {}})

    problems = audit(copy, run).problems
    assert all(len(problem.said.splitlines()) == 1 for problem in problems)
    said = [f"{problem.step}: {problem.said}" for problem in problems]
    for number, expected in enumerate(
        [
            "candidates: test-sampled-100-without-dft: the candidates that are kept are not those",
            "results: test-full-without-dft-lists.parquet: ",
            "candidates: test-sampled-100: the candidates",
            "results: test-full: domains/a/ndcg@10 is",
            "results: test-sampled-100: 1 of 40 ranks are not what the weights give, such as that of user",
        ]
    ):
        assert said[number].startswith(expected)
    assert said[5:] == [
        f"profiles: leak check of the profiles: position {end} of user u000 is not in training; "
        "remove this artefact and make it again"
    ]


def weights(workspace: Workspace, run: Run) -> None:
    path = run.folder / "fine-tuning.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def titles(workspace: Workspace, run: Run) -> None:
    rewritten(artefact(workspace, "augmentation") / "generated.parquet", title=pl.lit("another"))


def titles_and_digests(workspace: Workspace, run: Run) -> None:
    titles(workspace, run)
    with_digests(artefact(workspace, "augmentation"))


@pytest.mark.parametrize(
    ("tamper", "step", "says"),
    [
        (weights, "run", "weights: fine-tuning.safetensors changed after training"),
        (lambda _, run: change(run.folder / "run.json", "training", "lr", 0.5), "run", "are not those of the key"),
        (
            lambda _, run: change(run.folder / "run.json", "augmentation", "keep", 1),
            "augmentation",
            "made with another augmentation.keep than the run says",
        ),
        (titles, "augmentation", "generated.parquet changed after it was made"),
        (titles_and_digests, "augmentation", "its tables are not those that the run was made from"),
    ],
)
def test_what_was_changed_before_the_results_is_found(copy, tamper, step, says):
    tamper(copy, only_run(copy))
    run = only_run(copy)
    stages = Pipeline(copy, load(copy.dataset("tiny")), run.settings)
    found = [*chain.artefacts_of(copy, run, stages), *chain.run_itself(run, stages)]
    (problem,) = (check for check in found if check.passed is False)
    assert problem.step == step and says in problem.said


def test_nothing_rests_on_data_that_was_changed(copy):
    rewritten(copy.dataset("tiny").path / "interactions.parquet", item=pl.col("item").reverse())
    found = audit(copy, only_run(copy))
    assert [problem.said for problem in found.problems] == [
        "tiny: interactions.parquet changed after the dataset was made"
    ]
    assert [check.passed for check in found.leaks] == [None]


def test_the_first_digit_that_differs_is_named(honest, tmp_path):
    run = only_run(honest)
    lines = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    changed = next(line for line in lines if line["event"] == "epoch" and line["epoch"] == 1)
    then = changed["losses"]["next_item"]
    changed["losses"]["next_item"] = float(np.nextafter(then, 9))
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (check,) = compare_training(run, Run(tmp_path, run.plan))
    expected = f"first difference: pre-training, epoch 1, loss next_item: {then} then, {np.nextafter(then, 9)} now"
    assert (check.passed, check.said) == (False, expected)
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:-3]))
    (check,) = compare_training(Run(tmp_path, run.plan), run)
    assert check.said.startswith("first difference") and check.passed is False


def pipeline(workspace: Workspace, **options: object) -> Pipeline:
    settings = load_settings(
        "llm-edt-ce", flags={**SMALL, "options": {**SMALL["options"], **options}}, environment={}
    )
    return Pipeline(workspace, load(workspace.dataset("tiny")), settings, preset="llm-edt-ce")


def test_profiles_that_saw_the_validation_item_saw_that_alone(copy):
    honest, departed = pipeline(copy), pipeline(copy, profiles_see_validation=True)
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
    with pytest.raises(UserError, match="is not in training"):
        check_sources(honest.dataset, sources, "profiles")


def test_an_unsound_run_is_marked_and_shown_by_its_plan_alone(copy):
    workspace, honest = copy, only_run(copy)
    run = pipeline(workspace, unsound="split-after-augmentation").run()
    evaluate(workspace, run, "test", EvaluationSettings(), Events())
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
    (sound,) = tables[0].rows
    assert [row.label for row in tables[1].rows] == [sound.label, "unsound: split, local (no LLM)"]
    assert tables[1].rows[0].cells == sound.cells and not tables[1].marked
    assert any("inserted items are targets" in note for note in tables[1].notes)

    found = audit(workspace, run)
    problems = [f"{problem.step}: {problem.said}" for problem in found.problems]
    assert any(problem.startswith("protocol: unsound, not a result") for problem in problems)
    assert "augmentation: its prompts name what is held out, as options.unsound has it" in problems


def test_a_phase_that_its_minutes_ended_gets_as_many_epochs_as_it_had():
    phases = {"pre-training": {"ended": "minutes", "epoch": 7, "planned_epochs": 200}}
    settings = Settings().changed(training={"minutes": 1.0})
    again = repeated(SimpleNamespace(settings=settings, manifest=lambda: {"phases": phases}))  # type: ignore[arg-type]
    assert again.training.minutes is None
    assert (again.training.schedules["pre-training"].epochs, again.training.epochs) == (7, settings.training.epochs)
    phases["pre-training"]["ended"] = "patience"
    assert repeated(SimpleNamespace(settings=settings, manifest=lambda: {"phases": phases})) == settings  # type: ignore[arg-type]


def test_from_the_raw_files_to_the_cell_and_to_a_bundle(edt, shops, tmp_path, monkeypatch):
    """Of a system without weights; what is wrong is told in one line each."""
    edt("data", "prepare", "shops", "--domain-file", "shop.csv", "--domain-file", "outlet.csv")
    edt("train", "--data", "shops", "--model", "popularity", "--no-ui")
    shown = " ".join(edt("audit", "shops-popularity", "--raw", ".").stdout.split())
    assert "passed raw files shop.csv:" in shown and "The command that makes it again" in shown
    assert "it counts what the training view holds" in shown
    found = json.loads(edt("audit", "shops-popularity", "--json", "--again").stdout)
    assert found["passed"] and found["chain"][0]["passed"] is None

    shown = edt("report", "--data", "shops", "--bundle", "sub").stderr
    assert "edt audit sub checks them" in shown
    names = {path.name for path in (tmp_path / "sub").rglob("*") if path.is_file()}
    assert {
        "tables.tex",
        "tables.html",
        "test-full-ranks.parquet",
        "shops.json",
        "commands.sh",
        "SHA256SUMS",
    } <= names
    assert json.loads(edt("audit", "sub", "--json").stdout)["passed"]
    whole = b"".join(path.read_bytes() for path in (tmp_path / "sub").rglob("*") if path.is_file())
    assert b"u1" not in whole and b"s1" not in whole and platform.node().encode() not in whole
    monkeypatch.setenv("SHOP_TOKEN", "Popularity")
    assert (
        "would hold the value of SHOP_TOKEN" in edt("report", "--data", "shops", "--bundle", "sub", code=1).stderr
    )
    assert "something else than a bundle" in edt("report", "--data", "shops", "--bundle", ".", code=1).stderr
    assert "there is none behind these" in edt("report", "--paper", "--bundle", "other", code=2).stderr
    result = next((tmp_path / "sub").glob("runs/*/results/test-full.json"))
    result.write_text(result.read_text().replace('"mrr": ', '"mrr": 1'))
    lines = edt("audit", "sub", code=1).stderr.splitlines()
    assert "changed after the bundle was written" in lines[0] and "mrr is" in lines[1] and len(lines) == 2

    with (tmp_path / "shop.csv").open("a") as file:
        file.write("u9,s1,99\n")
    figure_file = next(tmp_path.glob("ws/runs/*/results/test-full.json"))
    figure_file.write_text(figure_file.read_text().replace('"hr@10": ', '"hr@10": 1'))
    failed = edt("audit", "shops-popularity", "--raw", ".", code=1)
    assert "shop.csv is not the file that the dataset was made from" in failed.stderr
    assert "hr@10 is" in failed.stderr and len(failed.stderr.strip().splitlines()) == 2
    assert (
        "takes the one that the raw files are in" in edt("audit", "shops-popularity", "--raw", "no", code=1).stderr
    )
