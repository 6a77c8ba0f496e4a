"""`edt reproduce` and what `edt report` reads of it: in this process, on a tiny dataset, without training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_data_cli import edt as edt  # the command in this process
from toy import random_dataset

import edt_cli.cli.reproduce as reproduce_module
import edt_cli.experiments.compare as compare_module
from edt_cli.data.saved import save
from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.evidence import Wanted
from edt_cli.experiments.findings import findings
from edt_cli.experiments.forecast import forecast
from edt_cli.pipeline.stage_keys import OFF
from edt_cli.pipeline.stages import Stages
from edt_cli.workspace.jobs import jobs_of
from edt_cli.workspace.layout import Workspace, digest
from edt_cli.workspace.runs import all_runs

pytestmark = pytest.mark.e2e
WANTED = Wanted(data=["tiny"])


def prepared(root: Path) -> Workspace:
    workspace = Workspace(root)
    with workspace.dataset("tiny").create() as (folder, manifest):
        saved = save(random_dataset(60), folder)
        manifest |= saved | {"data_key": digest(saved), "users": 60}
    return workspace


def make(c: Comparison) -> Comparison:
    """Every artefact of a plan that trains nothing, in this process."""
    for cell in c.unique:
        getattr(c.pipeline(cell), cell.stage)()
    return c


@pytest.fixture(scope="module")
def profiled(tmp_path_factory) -> Comparison:
    """The artefacts of table 6."""
    return make(WANTED.open(prepared(tmp_path_factory.mktemp("reproduced")), "table-6"))


@pytest.fixture
def nothing_is_launched(monkeypatch):
    monkeypatch.setattr(compare_module, "launch", lambda *_: pytest.fail("nothing is left to make"))


def by_label(document: dict) -> dict[str, list]:
    return {row["label"]: row["cells"] for row in document["rows"]}


def test_table_6_is_the_cosine_of_the_profiles_of_users_and_of_those_given_items(
    edt, profiled, monkeypatch, nothing_is_launched
):
    monkeypatch.setenv("EDT_WORKSPACE", str(profiled.workspace.root))
    (part,) = json.loads(edt("reproduce", "table6", "--data", "tiny", "--json").stdout)["parts"]
    assert part["what"] == "table-6" and not part["failed"] and not part["runs"]
    (table,) = part["tables"]
    assert [column["name"] for column in table["columns"]] == ["30%", "60%", "100%"]
    rows = by_label(table)
    before, *others = (profiled.pipeline(cell) for cell in profiled.cells)
    for column, pipeline in enumerate(others):
        cosines = (before.profiles().vectors * pipeline.profiles().vectors).sum(1)
        augmentation = pipeline.augmentation()
        given = np.isin(np.arange(60), augmentation.sequences.users[augmentation.inserted])
        assert rows["Similarity (%)"][column]["mean"] == pytest.approx(100 * cosines.mean(), abs=1e-4)
        assert rows["of users given items (%)"][column]["mean"] == pytest.approx(
            100 * cosines[given].mean(), abs=1e-4
        )
        assert rows["Users given items"][column]["mean"] == given.sum() > 0
        assert cosines[~given] == pytest.approx(1, abs=1e-5) and cosines[given].min() < 0.99
    counts = [cell["mean"] for cell in rows["Users given items"]]
    assert counts == sorted(counts) and counts[0] < counts[2]
    assert not jobs_of(profiled.workspace)[1:], "one command, no process of its own"
    for form, mark in (("latex", r"\toprule"), ("csv", "Inject Ratio 30%"), ("html", "<!doctype html>")):
        assert mark in edt("report", "--table", "6", "--format", form).stdout


def test_table_1_and_all_are_read_from_what_is_made(edt, profiled, monkeypatch):
    monkeypatch.setenv("EDT_WORKSPACE", str(profiled.workspace.root))
    c = WANTED.open(profiled.workspace, "table-1")
    assert [c.state(cell) for cell in c.cells] == ["finished"], "table 6 made the augmentation"
    (table,) = findings(c).tables
    shown = json.loads(edt("report", "--table", "1", "--json").stdout)["tables"][0]
    lengths = shown["rows"][0]["cells"]
    assert lengths[5]["mean"] > lengths[2]["mean"] and table.rows[0].cells[5].mean == lengths[5]["mean"]
    every = json.loads(edt("report", "--all", "--with-paper", "--json").stdout)
    assert [one["number"] for one in every["tables"]] == [1, 6]
    assert 98.76 in [cell["mean"] for row in every["tables"][1]["rows"] for cell in row["cells"]], "the paper's"
    assert {one["number"] for one in every["figures"]} <= {1, 3} and every["figures"]
    missing = edt("report", "--table", "7", code=1).stderr
    assert "make them with: edt reproduce table-7 --data tiny" in missing


def test_what_a_stage_is_made_by_is_the_artefact_that_was_planned(edt, profiled, monkeypatch):
    """By its key: `edt augment` with the arguments of a cell makes what the plan looks for, `edt profile` too."""
    monkeypatch.setenv("EDT_WORKSPACE", str(profiled.workspace.root))
    c = WANTED.open(profiled.workspace, "figure-1")
    llm_edt, llmcdsr = c.cells
    assert [c.state(cell) for cell in c.cells] == ["finished", "to do"]
    edt(*llmcdsr.arguments("cpu"), "--no-ui", "--yes")
    assert c.state(llmcdsr) == "finished" and forecast(c).left == []
    (part,) = json.loads(edt("reproduce", "figure-1", "--data", "tiny", "--json").stdout)["parts"]
    ratios = [series["label"] for series in part["figures"][0]["panels"][0]["series"]]
    assert ratios == ["before", "LLM-EDT, local (no LLM)", "LLMCDSR, local (no LLM)"]
    assert json.loads(edt("report", "--figure", "1", "--json").stdout)["figures"] == part["figures"]
    for cell in (llm_edt, *profiled.cells):
        assert "nothing has changed, kept" in edt(*cell.arguments("cpu"), "--no-ui", "--yes").stderr
    assert not all_runs(profiled.workspace)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("table-3", "--format", "png"), "only figures are drawn as png"),
        (("table-3", "--out", "table.pdf"), "only figures are drawn as pdf"),
        (("figure-5", "--format", "svg"), "svg needs a file"),
        (("claims", "--out", "claims.PNG"), "claims are tables, which are not drawn"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_made(edt, tmp_path, monkeypatch, arguments, said):
    monkeypatch.setattr("edt_cli.cli.reproduce.make_runs", lambda *_, **__: pytest.fail("runs come first"))
    workspace = prepared(tmp_path / "ws")
    assert said in edt("reproduce", *arguments, "--data", "tiny", "--yes", code=2).stderr
    assert not jobs_of(workspace)


def test_a_figure_that_there_is_not_is_said_where_there_is_no_run(edt, tmp_path):
    prepared(tmp_path / "ws")
    assert "there is no figure 9" in edt("report", "--figure", "9", "--data", "tiny", code=2).stderr


def test_a_dry_run_of_several_counts_what_they_share_once_and_makes_nothing(edt, tmp_path):
    workspace = prepared(tmp_path / "ws")
    what = ("table-3", "table-7", "figure-4", "figure-5")
    shown = json.loads(edt("reproduce", *what, "--data", "tiny", "--seeds", "1", "--dry-run", "--json").stdout)
    comparisons = [Wanted(data=["tiny"], seeds=[1]).open(workspace, name) for name in what]
    keys = [{c.key(cell) for cell in c.cells} for c in comparisons]
    assert shown["forecast"]["runs"] == len(set().union(*keys)) < sum(map(len, keys))
    assert shown["forecast"]["llm_calls"] == [0, 0], "local is no LLM"
    assert {cell["of"] for cell in shown["cells"]} == set(what)
    whole = {cell["system"] for cell in shown["cells"] if cell["of"] == "table-7"}
    assert whole == {"any r", "r ≥ 0.9", "r ≥ 0.95"}
    assert not all_runs(workspace) and not jobs_of(workspace)


def test_requests_that_rows_share_are_forecast_once(profiled, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not a key")
    monkeypatch.setenv("EDT_LLM_PROVIDER", "openai/gpt-4o-mini")
    (once,) = forecast(WANTED.open(profiled.workspace, "table-1")).stages
    comparisons = [WANTED.open(profiled.workspace, name) for name in ("table-4", "table-1", "table-4")]
    stages = forecast(*comparisons).stages
    assert [one.stage for one in stages] == ["augment", "profile"] * 3, "of each threshold, whoever needs it"
    # A threshold changes what is inserted, and so the profiles, but no question about items.
    assert [one.calls for one in stages if one.stage == "augment"] == [once.calls, (0, 0), (0, 0)]
    assert all(one.calls.low > 0 for one in stages if one.stage == "profile")
    assert forecast(*comparisons).calls == forecast(comparisons[0]).calls


def test_profiles_of_the_purchases_alone_are_asked_for_once_in_table_3(profiled, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not a key")
    llm = {"llm": {"provider": "openai/gpt-4o-mini"}}
    asked = {}
    for source in ("augmented", "raw"):
        wanted = replace(WANTED, of_all={**llm, "profiling": {"source": source}})
        table = wanted.open(profiled.workspace, "table-3")
        pipelines = {cell.label: table.pipeline(cell) for cell in table.cells}
        keys = {label: pipeline.profiles_key for label, pipeline in pipelines.items()}
        asked[source] = [one for one in forecast(table).stages if one.stage == "profile"]
        assert len({key for key in keys.values() if key != OFF}) == len(asked[source])
        if source == "raw":
            assert all(one.calls.low > 0 for one in asked[source])
            alone = pipelines["w/o Aug."]
            assert (
                alone.profiles_key
                == replace(alone, settings=alone.settings.changed(profiling={"source": "augmented"})).profiles_key
            )
    assert (len(asked["augmented"]), len(asked["raw"])) == (6, 2), "and those of w/o S-R-A"


def test_failed_questions_are_asked_again_once_for_all_evidence(profiled, monkeypatch):
    again = []
    monkeypatch.setattr(Stages, "retried", lambda self, done=None: again.append(id(done)) or self)
    monkeypatch.setattr(compare_module, "launch", lambda *_: pytest.fail("nothing is left to make"))
    wanted = replace(WANTED, retry_failed=True, max_failed=0.25)
    for _ in range(2):
        table = wanted.open(profiled.workspace, "table-6")
        assert table.pipeline(table.cells[0]).settings.limits.max_failed == 0.25
        compare_module.compare(table)
    assert again and set(again) == {id(wanted.asked_again)}


def test_prompts_and_settings_of_every_row(edt, profiled, monkeypatch, tmp_path):
    monkeypatch.setenv("EDT_WORKSPACE", str(profiled.workspace.root))
    edt("prompts", "export", str(tmp_path / "own"), "generate")
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(reproduce_module, "show_states", lambda comparisons, **_: seen.extend(comparisons.values()))
    options = ("--prompts", "own", "--set", "profiling.source=raw", "--max-failed", "0.1", "--retry-failed")
    edt("reproduce", "table-3", "--data", "tiny", *options, "--dry-run")
    (table,) = seen
    assert (table.max_failed, table.retry_failed) == (0.1, True)
    for settings in (cell.settings() for cell in table.cells):
        assert settings.llm.prompts == str(tmp_path / "own") and settings.profiling.source == "raw"
    said = edt("reproduce", "table-3", "--data", "tiny", "--set", "profiling.sauce=raw", "--dry-run", code=2).stderr
    assert "profiling.source" in said and len(said.splitlines()) == 1


def test_llms_are_compared_beside_local_and_say_what_must_be_set(edt, tmp_path, monkeypatch):
    for name in ("DEEPSEEK_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    prepared(tmp_path / "ws")
    dry = json.loads(edt("reproduce", "table-8", "--data", "tiny", "--dry-run", "--json").stdout)
    assert [cell["system"] for cell in dry["cells"]] == ["With DeepSeek", "With GPT-3.5", "With local (no LLM)"]
    assert dry["forecast"]["cost_usd"][1] > 0, "the paper's two LLMs, by one command and before there is a key"
    refused = edt("reproduce", "table-8", "--data", "tiny", "--yes", code=1).stderr.splitlines()
    assert len(refused) == 1 and "DEEPSEEK_API_KEY" in refused[0] and "--llm PROVIDER/MODEL,EMBEDDER" in refused[0]
    monkeypatch.setenv("OPENAI_API_KEY", "not a key")
    llm = ("--llm", "openai/gpt-4o-mini,openai/text-embedding-3-small", "--price", "1,2", "--limit-users", "5")
    bill = json.loads(edt("reproduce", "cost", "--data", "tiny", *llm, "--dry-run", "--json").stdout)
    assert [cell["system"] for cell in bill["cells"]] == [
        "With openai/gpt-4o-mini, openai/text-embedding-3-small",
        "With local (no LLM)",
    ]
    paid, free = (by_label(table) for table in bill["tables"])
    assert list(paid) == ["embedding", "generation", "summarization", "all"]
    assert paid["generation"][0]["mean"] == 5 and paid["generation"][2]["mean"] > paid["generation"][1]["mean"] > 0
    assert [paid[stage][4]["mean"] for stage in paid if stage != "all"] == [0.00009, 0.000194, 0.000477]
    assert {cells[5]["mean"] for cells in free.values()} == {0.0}
    asks = edt("reproduce", "table-8", "--data", "tiny", *llm, code=2).stderr
    assert "LLM calls" in asks and "say --yes" in asks
    several = edt(
        "reproduce", "table-3", "--data", "tiny", "--llm", "a/b", "--llm", "c/d", "--dry-run", code=2
    ).stderr
    assert "give one --llm" in several


def test_claims_are_told_of_what_there_is_with_what_makes_the_rest(edt, tmp_path, monkeypatch):
    workspace = prepared(tmp_path / "ws")
    claims = ("reproduce", "claims", "--data", "tiny")
    shown = json.loads(edt(*claims, "--preset", "paper", "--seeds", "1,2", "--dry-run", "--json").stdout)
    assert {cell["of"] for cell in shown["cells"]} == {f"table-{n}" for n in (3, 4, 5, 7, 9)} | {"figure-4"}
    verdicts, _ = shown["tables"]
    assert {row["cells"][4] for row in verdicts["rows"]} == {"no run yet", "not testable with local"}
    assert "edt reproduce table-4 --data tiny --seeds 1,2 --preset paper" in verdicts["notes"][1]
    assert not all_runs(workspace) and not jobs_of(workspace)

    made = []
    monkeypatch.setattr(compare_module, "compare", lambda c, **_: made.append(c.plan.seeds) or {})
    (part,) = json.loads(edt(*claims, "--json").stdout)["parts"]
    assert part["what"] == "claims" and not part["failed"]
    assert made == [[42, 44, 46]] * 6, "the paper's seeds, and no LLM"
    assert {claim["verdict"] for claim in part["claims"]} == {"no run yet", "not testable with local"}
    assert "by themselves" in edt(*claims[:2], "table-3", *claims[2:], code=2).stderr
