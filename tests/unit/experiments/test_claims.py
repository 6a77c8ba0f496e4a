"""Verdicts on the paper's claims, from made-up ranks of runs that nobody trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from toy import random_dataset, sequences

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import CUTOFFS, EvaluationSettings
from edt_cli.data.saved import save
from edt_cli.evaluation.significance import gains_t, holm, ndcg_of, paired_t
from edt_cli.experiments.claims import PLANS, claim_results
from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.contrasts import Place, compare_rows
from edt_cli.experiments.plan import Plan
from edt_cli.experiments.plan_rows import Reader
from edt_cli.inference.latency import LATENCY
from edt_cli.paper.claims import CLAIMS
from edt_cli.reporting.claims import ClaimResult, claim_tables, printed_gain
from edt_cli.reporting.render import document, render
from edt_cli.training.device import in_use
from edt_cli.workspace.documents import RANKS, result_name
from edt_cli.workspace.layout import Workspace, digest, write_json
from edt_cli.workspace.machine import machine
from edt_cli.workspace.runs import RESULTS, open_run

USERS = 900
SEEDS = (1, 2)
RanksOf = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Ranks of a row's run, from those of the whole method and the number of each user's interactions."""


def whole_method(seed: int, users: int) -> np.ndarray:
    """Ranks that the whole method gives."""
    return np.random.default_rng(seed).integers(1, 25, users)


def noisy(seed: int) -> RanksOf:
    """A rank or two more or less for every other user."""
    draw = np.random.default_rng(seed)
    return lambda ranks, lengths: np.maximum(
        1, ranks + draw.integers(-1, 2, len(ranks)) * draw.integers(0, 2, len(ranks))
    )


WORSE_FOR_SHORT: RanksOf = lambda ranks, lengths: ranks + np.where(lengths < 10, 7, 2)  # noqa: E731


def finish(
    c: Comparison,
    label: str,
    ranks_of: RanksOf,
    seeds: tuple[int, ...] = SEEDS,
    ended: str = "patience",
    parameters: int = 100,
    seconds: float = 1.0,
) -> None:
    """Leave a row's runs in the workspace as training and evaluation leave them."""
    for cell in c.cells:
        if cell.label != label or cell.seed not in seeds:
            continue
        pipeline = c.pipeline(cell)
        run = open_run(c.workspace, pipeline._plan())
        phase = {"epoch": 9, "best_epoch": 7, "ended": ended}
        write_json(run.folder / "manifest.json", {"phases": {"pre-training": phase}})
        facts = {"cpu": machine()["cpu"], **in_use("cpu")}
        measured = {"seconds": seconds, "users": 100, "passes": 5, **facts}
        write_json(run.folder / LATENCY, {"measured": [measured]})
        targets = pipeline.dataset.targets("test")
        lengths = pipeline.dataset.sequences.lengths[targets.users]
        name = result_name("test", EvaluationSettings(), "full", first_phase=False)
        cutoffs = {f"{metric}@{k}": 0.1 for metric in ("hr", "ndcg") for k in CUTOFFS}
        document = {
            "file": name,
            "protocol": "full",
            "first_phase": False,
            "repeats": 0.0,
            "overall": cutoffs,
            "parameters": parameters,
        }
        run.write_result(name, document)  # type: ignore[arg-type]
        columns = {"user": targets.users, "item": targets.items, "domain": targets.domains}
        ranks = ranks_of(whole_method(cell.seed, len(targets.users)), lengths).astype(float)
        pl.DataFrame({**columns, "rank_full": ranks}).write_parquet(run.folder / RESULTS / f"{name}{RANKS}")


def give_items(c: Comparison, given: np.ndarray, item: int) -> None:
    """Leave an augmentation of the whole method that appends an item to the histories of some users."""
    pipeline = c.pipeline(c.cells[0])
    prefixes = pipeline.view.prefixes
    rows = [[*prefixes.of(user), *[item] * int(given[user])] for user in range(len(prefixes))]
    augmented = sequences(*rows)
    inserted = np.zeros(len(augmented.items), bool)
    inserted[augmented.offsets[1:][given] - 1] = True
    vectors = np.zeros((0, 4), np.float32)
    made = replace(Augmentation.none(pipeline.view), sequences=augmented, inserted=inserted, pseudo_vectors=vectors)
    with c.workspace.artefact("augmentation", pipeline.augmentation_key).create() as (folder, _):
        made.save(folder)


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> dict[str, Comparison]:
    """Plans with some runs; that of the LLMs is not there, as without an LLM."""
    workspace = Workspace(tmp_path_factory.mktemp("claims"))
    with workspace.dataset("tiny").create() as (folder, manifest):
        saved = save(random_dataset(USERS), folder)
        manifest |= saved | {"data_key": digest(saved)}
    opened = {
        name: Comparison.open(workspace, Plan.read(Path(name)).changed(data=["tiny"], seeds=SEEDS))
        for name in PLANS
        if name != "table-8"
    }
    ablations = opened["table-3"]
    finish(ablations, ablations.cells[0].label, lambda ranks, _: ranks, parameters=105, seconds=2.0)
    finish(ablations, "w/o Aug.", WORSE_FOR_SHORT)
    finish(ablations, "w/o Filtering", lambda ranks, _: np.maximum(1, ranks - 6))
    finish(ablations, "w/o Inserting", noisy(3))
    finish(ablations, "Random Inserting", WORSE_FOR_SHORT)
    finish(ablations, "w/o Profiling", WORSE_FOR_SHORT, ended="minutes")
    finish(opened["table-4"], "τ calibrated − 0.05", lambda ranks, _: ranks)
    finish(opened["table-4"], "τ calibrated + 0.05", lambda ranks, _: np.where(ranks == 3, 4, ranks))
    finish(opened["table-7"], "r ≥ 0.9", WORSE_FOR_SHORT, seeds=(1,))
    finish(opened["table-7"], "r ≥ 0.95", WORSE_FOR_SHORT)
    finish(opened["table-9"], "LLM-EDT on GRU4Rec", WORSE_FOR_SHORT)
    finish(opened["table-9"], "LLM-EDT on BERT4Rec", lambda ranks, _: ranks)
    finish(opened["table-9"], "SASRec", WORSE_FOR_SHORT)
    give_items(ablations, np.arange(USERS) % 2 == 0, item=1)  # of the first domain
    return opened


@pytest.fixture(scope="module")
def results(plans) -> list[ClaimResult]:
    return claim_results(plans, "tiny")


@pytest.fixture
def verdicts(results) -> Callable[[str], list[str]]:
    return lambda claim: [result["verdict"] for result in results if result["claim"] == claim]


def test_a_claim_is_confirmed_refuted_or_too_close_to_say(verdicts, results):
    assert verdicts("1a") == ["confirmed"] * 2
    assert verdicts("2") == ["refuted"] * 2
    assert verdicts("3") == ["too close to say"] * 2
    weakest = {result["deciding"]["other"] for result in results if result["claim"] == "3"}
    assert weakest == {"w/o Inserting"}  # the other of its two comparisons shows what it should
    assert verdicts("8a") == ["confirmed"] * 2


def test_the_same_is_shown_by_equivalence_and_refuted_by_a_difference_beyond_the_margin(verdicts, results):
    assert verdicts("9a") == ["confirmed"] * 2
    assert verdicts("10b") == ["refuted"] * 2
    deciding = [result["deciding"] for result in results if result["claim"] == "10b"]
    assert {contrast["other"] for contrast in deciding} == {"LLM-EDT on GRU4Rec"}
    for contrast in deciding:
        assert contrast["margin"] == pytest.approx(0.05 * contrast["method_value"])
        assert contrast["high"] < -contrast["margin"]


def test_costs_are_held_against_their_limits(verdicts, results):
    assert (verdicts("10d"), verdicts("10e")) == (["confirmed"], ["refuted"])
    parameters, time = (result["deciding"] for result in results if result["claim"] in ("10d", "10e"))
    assert (parameters["method_value"], parameters["other_value"]) == (105, 100)
    assert (time["method_value"], time["other_value"]) == (20.0, 10.0)  # ms a user


def test_what_is_missing_supports_no_verdict_and_has_a_command(verdicts, results):
    assert verdicts("1c") == ["one seed only"] * 2
    assert verdicts("4") == ["no run yet"] * 2
    assert verdicts("5") == verdicts("7") * 2 == ["a limit ended a run"] * 2
    assert verdicts("6") == verdicts("10a") == ["not testable with local"] * 2
    commands = {result["claim"]: result["deciding"]["command"] for result in results}
    missing = {result["claim"]: result["deciding"]["missing_seeds"] for result in results}
    assert (missing["1a"], missing["1c"], missing["4"], missing["10a"]) == ([], [2], [1, 2], [1, 2])
    assert commands["9b"] == "edt reproduce table-5 --data tiny --seeds 1,2"
    assert commands["6"] == "edt reproduce table-3 --data tiny --seeds 1,2 --llm PROVIDER/MODEL"


def test_the_command_makes_the_runs_that_were_wanted(plans):
    given = {"seeds": [7], "preset": "paper", "budget": {"minutes": 20.0}}
    plan = plans["table-4"].plan.changed(**given, settings={"llm": {"provider": "openai/x", "limit_users": 50}})
    reader = Reader({"table-4": replace(plans["table-4"], plan=plan)}, "tiny", None, None)
    assert reader.command("table-4", llm=False) == (
        "edt reproduce table-4 --data tiny --seeds 7 --preset paper --minutes 20 --llm openai/x --limit-users 50"
    )


def test_the_augmenter_is_also_tested_among_those_who_were_given_items(verdicts, results, plans):
    by_domain = {result["domain"]: result for result in results if result["claim"] == "1b"}
    assert list(by_domain) == [
        "a, given items of a",
        "b, given items of a",
        "a, given items of b",
        "b, given items of b",
    ]
    assert verdicts("1b") == ["confirmed"] * 2 + ["too few such users"] * 2
    targets = plans["table-3"].datasets["tiny"].targets("test")
    given = ((targets.domains == 1) & (targets.users % 2 == 0)).sum()
    assert by_domain["b, given items of a"]["deciding"]["users"] == given


def test_of_an_llm_that_was_asked_about_a_sample_only_these_users_count(plans):
    """And nobody is asked where the profiles are gone."""
    c = plans["table-3"]
    reader = Reader(plans, "tiny", None, None)
    row = reader.row("table-3", None)
    sample = np.arange(USERS) % 3 == 0
    asked = {"provider": "openai/x", "limit_users": int(sample.sum())}
    settings = row.pipeline.settings.changed(llm=asked)
    pipeline = SimpleNamespace(
        settings=settings,
        dataset=row.pipeline.dataset,
        profiles_key="key",
        made=lambda kind: True,
        profiles=lambda: SimpleNamespace(has_profile=sample),
    )
    naive = replace(reader.row("table-3", "Random Inserting"), label="w/o S-R-A", pipeline=pipeline)
    reader._rows["table-3", row.label] = replace(row, pipeline=pipeline)
    reader._rows["table-3", "w/o S-R-A"] = naive
    (claim,) = (claim for claim in CLAIMS if claim.number == "6")
    targets = c.datasets["tiny"].targets("test")
    result = compare_rows(reader, claim.contrasts[0], Place(1), needs_llm=True)
    assert result["users"] == ((targets.domains == 1) & sample[targets.users]).sum()
    assert result["comparison"].endswith("users who were asked about") and result["problem"] is None
    pipeline.made, pipeline.profiles = lambda kind: False, lambda: pytest.fail("an LLM is asked")
    assert compare_rows(reader, claim.contrasts[0], Place(1), needs_llm=True)["problem"] == "too few such users"


def test_figures_are_of_each_user_averaged_over_seeds(results, plans):
    dataset = plans["table-3"].datasets["tiny"]
    targets = dataset.targets("test")
    lengths = dataset.sequences.lengths[targets.users]
    whole = [whole_method(seed, len(lengths)) for seed in SEEDS]
    ours = np.mean([ndcg_of(ranks) for ranks in whole], axis=0)
    theirs = np.mean([ndcg_of(WORSE_FOR_SHORT(ranks, lengths)) for ranks in whole], axis=0)
    short = lengths < 10
    for number, name in enumerate(dataset.domains.names):
        here = targets.domains == number
        helps, gains = (
            result["deciding"]
            for result in results
            if (result["domain"], result["claim"]) in ((name, "1a"), (name, "8a"))
        )
        assert helps["difference"] == pytest.approx((ours - theirs)[here].mean())
        assert helps["p"] == pytest.approx(paired_t(theirs[here], ours[here]))
        groups = [(theirs[here & among], ours[here & among]) for among in (short, ~short)]
        assert gains["p"] == pytest.approx(gains_t(*groups))
        assert gains["difference"] == gains["method_value"] - gains["other_value"] > 0


def test_p_is_corrected_for_all_claims_and_domains_those_not_tested_among_them(results):
    family = [result for result in results if result["claim"] not in ("10d", "10e")]
    raw = [
        max(1.0 if contrast["problem"] else contrast["p"] for contrast in result["contrasts"]) for result in family
    ]
    for result, p in zip(family, holm(raw), strict=True):
        assert result["p_holm"] == (None if result["deciding"]["problem"] else p)
    assert {result["claim"] for result in results} == {claim.number for claim in CLAIMS}


def test_tables_tell_verdicts_and_commands_in_each_form(results):
    verdicts, comparisons = claim_tables(results)
    rows = {(row.group, row.label): list(map(str, row.cells)) for row in verdicts.rows}
    helps = rows["1a", "The augmenter helps: a"]
    assert helps[4:] == ["confirmed", "+1.7 / +7.8% N@10", "LLM-EDT over w/o Aug."]
    assert rows["10d", "It has few parameters more than SASRec: all"][:4] == ["1.05×", "–", "at most 1.10×", "–"]
    assert rows["8a", "Short users gain most by the augmenter: a"][0].endswith(" pts")
    assert "edt reproduce table-5 --data tiny --seeds 1,2" in verdicts.notes[1]
    assert "table-4" not in verdicts.notes[1]
    assert len(comparisons.rows) == sum(len(result["contrasts"]) for result in results)
    for table in (verdicts, comparisons):
        assert document(table)["rows"] and "confirmed" in str(render(verdicts, "markdown"))
        assert "\\begin{tabular}" in str(render(table, "latex"))


def test_the_gain_that_the_paper_prints_is_computed_from_its_tables():
    assert printed_gain(3, "LLM-EDT", "w/o Filtering.") == "+4.0 / +11.5% N@10"
    assert printed_gain(5, "k = 15", "k = 10") == "-2.2 / -0.6% H@10"
    assert printed_gain(9, "LLM-EDT", "LLM4CDSR", "BERT4Rec") == "+7.3 / +8.9% N@10"
    for claim in CLAIMS:
        for contrast in claim.contrasts:
            assert contrast.printed is None or printed_gain(*contrast.printed)


def test_every_comparison_names_rows_of_its_plan():
    for claim in CLAIMS:
        for contrast in claim.contrasts:
            labels = Plan.read(Path(contrast.plan)).labels()
            names = [name for name in (contrast.method, contrast.other) if isinstance(name, str)]
            assert set(names) <= set(labels)
