"""A plan of runs: made as processes, killed and gone on with, one failing; and what is claimed of its figures."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_rel
from toy import random_dataset

from edt_cli.cli.app import main
from edt_cli.config import UsageError, UserError, load_settings
from edt_cli.data.open import open_dataset
from edt_cli.data.saved import save
from edt_cli.evaluation.significance import ndcg_of
from edt_cli.experiments.compare import Comparison, _next, compare
from edt_cli.experiments.plan import Plan
from edt_cli.experiments.plan_results import collect_results, epoch_seconds
from edt_cli.experiments.plan_tests import _verdict
from edt_cli.inference.results import evaluate, ranks_of
from edt_cli.models.systems import OURS, presets_of, systems
from edt_cli.models.systems import system as system_of
from edt_cli.pipeline import Pipeline
from edt_cli.reporting.comparison import comparison_tables
from edt_cli.workspace.event_types import EpochEnded
from edt_cli.workspace.events import Events, read_events
from edt_cli.workspace.jobs import alive, heartbeat, jobs_of
from edt_cli.workspace.layout import Workspace, digest
from edt_cli.workspace.runs import all_runs
from edt_cli.workspace.status import RunStatus, status_of

pytestmark = pytest.mark.e2e

QUICK = """
data = ["tiny"]
method = "gru4rec"
[budget]
epochs = {epochs}
[settings.model]
hidden = 8
blocks = 1
max_length = 12
[settings.training]
batch = {batch}
patience = {patience}
min_steps = 0
"""


def prepared(place: Path, users: int = 60) -> Workspace:
    workspace = Workspace(place)
    with workspace.dataset("tiny").create() as (folder, manifest):
        saved = save(random_dataset(users, domains="abc"), folder)
        manifest |= saved | {"data_key": digest(saved)}
    return workspace


def plan_file(place: Path, *systems: str, epochs: int = 40, batch: int = 16, patience: int = 1) -> Path:
    path = place / "plan.toml"
    path.write_text(QUICK.format(epochs=epochs, batch=batch, patience=patience) + "".join(systems))
    return path


def system(model: str, more: str = "") -> str:
    return f'\n[[systems]]\nmodel = "{model}"\n{more}\n'


def command(place: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "edt_cli", *arguments, "--workspace", str(place)]


def edt_process(place: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as those that it starts are."""
    done = subprocess.run(command(place, *arguments), capture_output=True, text=True, timeout=280)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def edt(place: Path, *arguments: str, code: int = 0) -> SimpleNamespace:
    """The command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        patch.setattr(sys, "argv", ["edt", *arguments, "--workspace", str(place)])
        main()
    assert (ended.value.code or 0) == code, f"{out.getvalue()}\n{err.getvalue()}"
    return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue())


def until(what, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while not (there := what()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return there


def states(workspace: Workspace, path: Path) -> list[str]:
    c = Comparison.open(workspace, Plan.read(path))
    return [c.state(cell) for cell in c.cells]


def epochs_of(workspace: Workspace) -> list[int]:
    events = [event for run in all_runs(workspace) for event in read_events(run.folder)]
    return [event.epoch for event in events if event.event in ("epoch", "resumed")]


def test_one_command_makes_the_runs_one_fails_and_the_rest_is_shown(tmp_path):
    workspace = prepared(tmp_path)
    bad = system("sasrec", 'label = "Bad"\n[systems.settings.training]\nlr = 1e30\npatience = 9')
    path = plan_file(tmp_path, bad, system("popularity"), system("gru4rec"))
    assert states(workspace, path) == ["to do"] * 3
    assert not all_runs(workspace)

    done = edt_process(tmp_path, "compare", str(path), "--jobs", "2", "--json", code=1)
    assert done.stderr.strip().splitlines()[-1].startswith("Bad on tiny, seed 42 failed: the loss of pre-training")
    made = json.loads(done.stdout)
    assert [one["system"] for one in made["failed"]] == ["Bad"]
    rows = {row["label"]: row["cells"] for row in made["tables"][0]["rows"]}
    assert rows["Bad"] == ["–"] * 6
    assert all(cell["mean"] > 0 for cell in rows["Popularity"])
    assert {run["label"]: run["cut"] for run in made["runs"]} == {"Popularity": False, "GRU4Rec": False}
    assert {run["preset"] for run in made["runs"]} == {"popularity", "gru4rec"}
    assert len(made["claims"]) == 2 * 3 and all(claim["p"] is not None for claim in made["claims"])

    assert states(workspace, path) == ["failed", "finished", "finished"]
    report = edt(tmp_path, "report", "--plan", str(path), "--format", "markdown").stdout
    assert "GRU4Rec against the best rival of each domain: test, full ranking" in report.replace("\\", "")
    assert "What each system took" in report
    page = edt(tmp_path, "report", "--plan", str(path), "--format", "html").stdout
    assert page.startswith("<!doctype html>") and page.count("<table") == report.count("What each system took") + 4


def test_a_plan_that_was_killed_ends_what_it_began_goes_on_and_then_has_nothing_to_do(tmp_path):
    workspace = prepared(tmp_path)
    path = plan_file(tmp_path, system("sasrec"), epochs=60, batch=4, patience=999)
    first = subprocess.Popen(command(tmp_path, "compare", str(path)), stderr=subprocess.DEVNULL)
    until(lambda: 2 in epochs_of(workspace))
    first.terminate()
    assert first.wait(60) == 128 + signal.SIGTERM
    assert not any(alive(heartbeat(folder)) for folder in jobs_of(workspace))
    (run,) = all_runs(workspace)
    assert status_of(run.folder) is RunStatus.STOPPED

    # What no process can catch leaves the training at work: the plan waits for it, and trains nothing twice.
    second = subprocess.Popen(command(tmp_path, "compare", str(path)), stderr=subprocess.DEVNULL)
    reached = max(epochs_of(workspace))
    until(lambda: max(epochs_of(workspace)) > reached + 1)
    os.kill(second.pid, signal.SIGKILL)
    second.wait(60)
    third = edt_process(tmp_path, "compare", str(path))
    assert "†" in third.stdout and "epochs" in third.stdout
    assert run.finished
    events = [event.event for event in read_events(run.folder)]
    assert events.count("resumed") == 1 and events.count("finished") == 1
    told = [event.epoch for event in read_events(run.folder) if event.event == "epoch"]
    assert told == list(range(61))

    jobs = len(jobs_of(workspace))
    assert states(workspace, path) == ["finished"]
    assert not compare(Comparison.open(workspace, Plan.read(path)))
    assert len(jobs_of(workspace)) == jobs


def made_here(workspace: Workspace, plan: Plan) -> Comparison:
    """Every run of a plan, in this process."""
    c = Comparison.open(workspace, plan)
    for cell in c.cells:
        c.pipeline(cell).run()
    return c


def test_the_claims_are_of_the_ranks_of_each_user_averaged_over_seeds(tmp_path):
    workspace = prepared(tmp_path)
    path = plan_file(tmp_path, system("gru4rec", "seeds = [1, 2]"), system("item-knn"), system("popularity"))
    c = made_here(workspace, Plan.read(path))
    result = collect_results(c)
    assert all(outcome["rank_seconds"] >= 0 for outcome in result.outcomes)
    assert [row.seeds for row in result.grid.rows] == [(1, 2), (42,), (42,)]
    full = c.plan.evaluations[0]

    def gains(label: str, domain: int) -> np.ndarray:
        runs = [c.run(cell) for cell in c.cells if cell.label == label]
        frames = [ranks_of(run, evaluate(workspace, run, "test", full, Events())[0]) for run in runs]
        own = [frame.filter(frame["domain"] == domain)["rank"].to_numpy() for frame in frames]
        return np.mean([ndcg_of(ranks) for ranks in own], axis=0)

    for number, claim in enumerate(claim for claim in result.claims if claim["protocol"] == "full"):
        rivals = {label: gains(label, number) for label in ("Item-kNN", "Popularity")}
        assert claim["rival"] == max(rivals, key=lambda label: rivals[label].mean())
        ours, theirs = gains("GRU4Rec", number), rivals[claim["rival"]]
        assert claim["difference"] == pytest.approx((ours - theirs).mean())
        assert claim["p"] == pytest.approx(ttest_rel(ours, theirs, alternative="greater").pvalue)
        assert claim["low"] <= claim["difference"] <= claim["high"]
        assert claim["p_holm"] >= claim["p"]
        assert claim["verdict"] in ("better", "worse", "not clear")


def test_ablations_are_rows_of_one_table_and_the_first_phase_costs_no_run(tmp_path):
    workspace = prepared(tmp_path)
    entries = [
        system("llm-edt", f"{line}[systems.options]\nfinetune_epochs = 2\nfinetune_min_steps = 0")
        for line in ("", 'ablation = "profiling"\n', 'ablation = "dft"\n')
    ]
    path = plan_file(tmp_path, *entries, epochs=2, patience=9)
    head = 'table = 3\npreset = "llm-edt-ce"\nagainst = "each"\n'
    path.write_text(
        head + path.read_text().replace('method = "gru4rec"\n', "").replace("blocks = 1", "blocks = 1\nheads = 1")
    )
    c = made_here(workspace, Plan.read(path))
    whole, without, first = c.cells
    assert c.run(whole).name == c.run(first).name != c.run(without).name
    assert not compare(c) and len(all_runs(workspace)) == 2

    result = collect_results(c)
    full = [outcome for outcome in result.outcomes if outcome["protocol"] == "full"]
    assert [outcome["variant"] for outcome in full] == ["", "w/o Profiling", "w/o DFT"]
    documents = evaluate(workspace, c.run(whole), "test", c.plan.evaluations[0], Events())
    assert [full[0]["domains"], full[2]["domains"]] == [document["domains"] for document in documents]
    figures, tests, *_ = comparison_tables(result.grid, result.outcomes, result.claims)
    assert figures.heading.startswith("Table 3. Ablation study on tiny: test, full ranking")
    assert [row.label for row in figures.rows] == [row.label for row in result.grid.rows]
    assert len(tests.rows) == 2 * 3 and {row.cells[1] for row in tests.rows} == {
        row.label for row in result.grid.rows[1:]
    }


def test_a_dry_run_tells_what_is_left_by_what_such_runs_took_here(tmp_path):
    workspace = prepared(tmp_path)
    path = plan_file(tmp_path, system("gru4rec"), system("item-knn"), epochs=2, patience=9)
    handed = tmp_path / "handed.toml"
    handed.write_text(path.read_text().replace('data = ["tiny"]', ""))
    made = made_here(workspace, Plan.read(path))
    seconds = sum(phase["seconds"] for phase in made.run(made.cells[0]).manifest()["phases"].values())

    options = ("--data", "tiny", "--dry-run", "--json")
    there = json.loads(edt(tmp_path, "compare", str(handed), *options).stdout)
    assert [cell["state"] for cell in there["cells"]] == ["not evaluated"] * 2
    assert there["forecast"] == {
        "runs": 0,
        "seconds": 0,
        "runs_of_unknown_time": 0,
        "llm_calls": [0.0, 0.0],
        "cost_usd": [0.0, 0.0],
    }
    more = json.loads(edt(tmp_path, "compare", str(handed), "--seeds", "1,2", *options).stdout)
    assert more["forecast"]["runs"] == 4 and more["forecast"]["runs_of_unknown_time"] == 0
    assert more["forecast"]["seconds"] == pytest.approx(2 * seconds)
    told = edt(tmp_path, "compare", str(handed), "--data", "tiny", "--seeds", "1", "--dry-run").stderr
    assert "0 of 2 runs are made, 2 are left; 2 of them take about 0:00 hours, by such runs here" in " ".join(
        told.split()
    )
    refused = edt(tmp_path, "compare", str(handed), code=2).stderr
    assert "the plan names no dataset" in refused

    of_plan = ("report", "--plan", str(handed), "--data", "tiny", "--format", "csv")
    assert "GRU4Rec" in edt(tmp_path, *of_plan, "--seeds", "42", "--epochs", "2").stdout
    for others in (("--seeds", "1"), ("--epochs", "3")):
        assert "is finished yet" in edt(tmp_path, *of_plan, *others, code=1).stderr
    assert "are of a plan's runs" in edt(tmp_path, "report", "--seeds", "1", code=2).stderr


def test_nothing_is_claimed_of_a_run_that_a_limit_ended_or_that_is_not_there(tmp_path):
    workspace = prepared(tmp_path)
    rivals = system("popularity"), system("item-knn")
    path = plan_file(tmp_path, system("gru4rec"), *rivals, epochs=1, patience=9)
    result = collect_results(made_here(workspace, Plan.read(path)))
    assert {claim["verdict"] for claim in result.claims} == {"no claim: the budget ended GRU4Rec"}
    assert {claim["p_holm"] for claim in result.claims} == {None}

    path = plan_file(tmp_path, system("gru4rec", "seeds = [1, 2]"), *rivals)
    c = Comparison.open(workspace, Plan.read(path))
    c.pipeline(c.cells[0]).run()
    result = collect_results(c)
    assert {claim["verdict"] for claim in result.claims} <= {"no claim: GRU4Rec is not there"}


def test_the_ranks_of_other_targets_are_never_compared(tmp_path, monkeypatch):
    import edt_cli.experiments.plan_results as module

    workspace = prepared(tmp_path)
    c = made_here(workspace, Plan.read(plan_file(tmp_path, system("gru4rec"), system("popularity"))))
    honest = module.ranks_of

    def other(run, document):
        frame = honest(run, document)
        return frame.reverse() if "gru4rec" in run.name else frame

    monkeypatch.setattr(module, "ranks_of", other)
    with pytest.raises(ValueError, match="ranked different targets"):
        collect_results(c)


def test_two_runs_never_make_the_same_artefact_at_once():
    def pipeline(keys, made=()):
        return SimpleNamespace(artefact_keys=lambda: keys, made=lambda kind: kind in made)

    pipelines = {
        "a": pipeline({"embeddings": "e", "augmentation": "x"}),
        "b": pipeline({"embeddings": "e"}),
        "ids": pipeline({}),
        "ready": pipeline({"embeddings": "e", "augmentation": "none"}, made=("embeddings",)),
    }
    c = SimpleNamespace(pipeline=pipelines.get)
    first, missing = _next(c, ["a", "b"], {})
    assert first == "a" and missing == {("embeddings", "e"), ("augmentation", "x")}
    at_work = {"a": SimpleNamespace(making=missing)}
    assert _next(c, ["b"], at_work) is None
    assert _next(c, ["b", "ids"], at_work)[0] == "ids"
    assert _next(c, ["b", "ready"], at_work)[0] == "ready"


def test_seconds_an_epoch_are_the_median_and_not_upset_by_a_new_start():
    def told(*pairs):
        return [EpochEnded(phase="p", epoch=epoch, seconds=at) for epoch, at in pairs]

    assert epoch_seconds(told((0, 1.0), (1, 3.0), (2, 5.0), (3, 105.0)), "p") == 2.0
    assert epoch_seconds(told((0, 1.0), (0, 0.5), (1, 2.5)), "p") == 2.0
    assert epoch_seconds(told((0, 1.0), (7, 15.0)), "p") == 2.0
    assert epoch_seconds(told((0, 1.0)), "p") is None
    assert epoch_seconds(told((0, 1.0), (1, 3.0)), "q") is None


def test_the_process_of_a_cell_has_the_settings_that_were_planned(tmp_path, monkeypatch):
    """By the key of its run: `edt train` with the arguments of a cell finds nothing left to do."""
    workspace = prepared(tmp_path)
    more = "[systems.settings.training]\nlr = 0.004\nseen_negatives = false\nschedule = 'cosine'"
    monkeypatch.setenv("EDT_TRAINING_LR", "0.5")
    c = made_here(workspace, Plan.read(plan_file(tmp_path, system("sasrec", more), epochs=1)))
    (cell,) = c.cells
    assert cell.settings().training.lr == 0.004
    done = edt(tmp_path, *cell.arguments("cpu"))
    assert "is finished already" in done.stderr and len(all_runs(workspace)) == 1
    assert not compare(c)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[systems]]\nmodel = "sasrec"', "data"),
        ('data = ["x"]', "systems"),
        ('data = ["x", "x"]\n[[systems]]\nmodel = "sasrec"', "twice"),
        ('data = ["x"]\n[[systems]]\nmodel = "sasrec"\n[systems.settings.training]\nepochs = 9', "alike for all"),
        (
            'data = ["x"]\n[[systems]]\nmodel = "sasrec"\n[systems.settings.evaluation]\nnegatives = 9',
            "alike for all",
        ),
        ('data = ["x"]\nmatch_paper = true\n[settings.model]\nhidden = 64\n[[systems]]\nmodel = "sasrec"', "alike"),
        ('data = ["x"]\n[[systems]]\nmodel = "nothing"', "unknown model"),
        ('data = ["x"]\n[[systems]]\nmodel = "llm-edt"\nablation = "aug."', "there is no ablation 'aug.'"),
        ('data = ["x"]\ntable = 3\nfigure = 5\n[[systems]]\nmodel = "llm-edt"', "not of both"),
        (
            'data = ["x"]\n[[systems]]\nmodel = "sasrec"\n[[systems]]\nmodel = "sasrec"',
            "give one of them another label",
        ),
        ('data = ["x"]\n[[systems]]\nmodel = "sasrec"\n[systems.settings.training]\nspeed = 9', "training.speed"),
        (
            'data = ["x"]\nmatch_paper = true\n[[systems]]\nmodel = "sasrec"\n[systems.settings.model]\nheads = 3',
            "heads",
        ),
        ('data = ["x"', "TOML"),
    ],
)
def test_a_file_that_makes_no_plan_is_one_clear_line(tmp_path, text, says):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        Comparison.open(Workspace(tmp_path), Plan.read(path))


def test_every_system_gets_the_budget_and_with_match_paper_the_papers_size_and_batch(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(
        'data = ["x", "y"]\nseeds = [1, 2]\nmatch_paper = true\n[budget]\nepochs = 7\nminutes = 5\n'
        + "".join(system("llm-edt", f'preset = "{preset}"') for preset in ("paper", "best"))
        + system("gru4rec", "seeds = [3]")
    )
    cells = Plan.read(path).cells()
    assert [(cell.data, cell.label, cell.seed) for cell in cells[:5]] == [
        ("x", "LLM-EDT (paper)", 1),
        ("x", "LLM-EDT (paper)", 2),
        ("x", "LLM-EDT (best)", 1),
        ("x", "LLM-EDT (best)", 2),
        ("x", "GRU4Rec", 3),
    ]
    for cell in cells:
        s = cell.settings()
        assert (s.training.epochs, s.training.minutes, s.training.seed) == (7, 5.0, cell.seed)
        assert (s.model.hidden, s.training.batch) == (128, 512)
    assert cells[2].settings().options["memory"] and "memory" not in cells[0].settings().options


def test_a_row_of_a_plan_is_named_by_its_preset_and_what_it_sets_otherwise(tmp_path):
    otherwise = "[systems.settings.training]\nlr = 0.0123\nloss = 'ce'"
    path = plan_file(
        tmp_path,
        system("llm-edt"),
        system("llm-edt", f"preset = 'llm-edt-ce'\n{otherwise}"),
        system("llm-edt", "preset = 'paper'\nlabel = 'As printed'"),
        system("sasrec", f"preset = 'sasrec-ce'\n{otherwise}"),
        system("gru4rec", otherwise),
        system("bert4rec"),
        system("bert4rec", otherwise),
    )
    cells = Plan.read(path).cells()
    assert [(cell.label, cell.preset_name) for cell in cells] == [
        ("LLM-EDT (best)", "best"),
        ("LLM-EDT (llm-edt-ce, lr=0.0123)", "llm-edt-ce"),
        ("As printed", "paper"),
        ("SASRec (sasrec-ce, lr=0.0123)", "sasrec-ce"),
        ("GRU4Rec", "gru4rec"),
        ("BERT4Rec", "bert4rec"),
        ("BERT4Rec (lr=0.0123)", "bert4rec"),
    ]
    shown = json.loads(edt(prepared(tmp_path).root, "compare", str(path), "--dry-run", "--json").stdout)["cells"]
    assert [(one["system"], one["preset"]) for one in shown] == [(cell.label, cell.preset_name) for cell in cells]


def test_match_paper_on_train(tmp_path):
    prepared(tmp_path)
    train = ("train", "--data", "tiny", "--model", "gru4rec", "--match-paper", "--no-ui")
    for flag in (("--batch", "64"), ("--set", "model.hidden=64")):
        assert "leave them to it" in edt(tmp_path, *train, *flag, code=2).stderr
    edt(tmp_path, *train, "--epochs", "1", "--set", "evaluation.negatives=5")
    (run,) = all_runs(Workspace(tmp_path))
    assert (run.settings.model.hidden, run.settings.training.batch) == (128, 512)
    assert {one["negatives"] for one in run.results()} == {None, 5}


def test_the_example_is_table_2():
    plan = Plan.read(Path("table-2"))
    from edt_cli.reporting.tables import ORDER, OTHER

    assert {one.model for one in plan.systems} == set(ORDER) - {OTHER}
    assert (plan.protocols, plan.negatives) == (["full", "sampled"], 100)
    known = plan.model_copy(update={"systems": [one for one in plan.systems if one.model in systems()]})
    assert len(known.cells()) == 2 * sum(len(one.seeds or plan.seeds) for one in known.systems)
    assert {one.model for one in plan.systems if one.seeds} == {"sasrec", "llm4cdsr", "llm-edt"}
    if len(known.systems) < len(plan.systems):
        with pytest.raises(UsageError, match="unknown model"):
            plan.cells()


def test_the_example_of_llm_edt_takes_its_parts_out_of_the_fair_preset():
    plan = Plan.read(Path("llm-edt"))
    ours = [one for one in plan.systems if one.model == OURS]
    assert {one.preset for one in ours} == set(presets_of(OURS))
    assert [one.preset for one in ours if one.settings] == ["llm-edt-ce"] * 2
    assert plan.budget.minutes is None and len(set(plan.labels())) == len(plan.systems)


def test_the_demo_plan_puts_llm_edt_beside_what_needs_no_training(tmp_path):
    path = Path("demo")
    shown = json.loads(edt(tmp_path, "compare", str(path), "--dry-run", "--json").stdout)["cells"]
    assert [(cell["data"], cell["system"], cell["state"]) for cell in shown] == [
        ("demo", label, "to do")
        for label in ("Popularity", "Item-kNN", "Content-kNN", "SASRec (sasrec-ce)", "LLM-EDT (best)")
    ]
    *_, ours = Plan.read(path).cells()
    made = Pipeline(Workspace(tmp_path), open_dataset(Workspace(tmp_path), "demo"), ours.settings())
    quick = replace(made, settings=load_settings(system_of(OURS).preset))
    assert made.run_key == quick.run_key, "the run of `edt train --data demo` counts"


def test_what_is_to_be_done_is_shown_and_not_done(tmp_path):
    workspace = prepared(tmp_path)
    path = plan_file(tmp_path, system("sasrec"), system("popularity"))
    shown = json.loads(edt(tmp_path, "compare", str(path), "--dry-run", "--json").stdout)
    assert [(cell["system"], cell["state"]) for cell in shown["cells"]] == [
        ("SASRec", "to do"),
        ("Popularity", "to do"),
    ]
    assert not all_runs(workspace) and not jobs_of(workspace)
    assert f"edt compare {path}" in edt(tmp_path, "report", "--plan", str(path), code=1).stderr


@pytest.mark.parametrize(
    ("better", "worse", "low", "high", "verdict"),
    [
        (0.01, 1.0, 0.1, 0.2, "better"),
        (0.20, 1.0, 0.1, 0.2, "not clear"),
        (1.00, 0.01, -0.2, -0.1, "worse"),
        (1.00, 0.20, -0.2, -0.1, "not clear"),
        (0.01, 1.0, -0.1, 0.2, "not clear"),
    ],
)
def test_either_side_needs_its_corrected_test_and_the_interval(better, worse, low, high, verdict):
    assert _verdict({"low": low, "high": high}, better, worse) == verdict  # type: ignore[typeddict-item]
