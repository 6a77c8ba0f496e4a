"""Names of the paper's evidence, and plans that are handed their LLMs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edt_cli.config import UsageError
from edt_cli.experiments.evidence import named
from edt_cli.experiments.llms import LLM, compares_llms, with_llms
from edt_cli.experiments.plan import Plan
from edt_cli.llm.providers import Providers
from edt_cli.workspace.layout import Workspace


def test_evidence_is_named_as_people_write_it():
    assert named(["table3", "Table-3", "figure 4", "cost"]) == ["table-3", "figure-4", "cost"]
    every = named(["all"])
    assert every[:9] == [f"table-{number}" for number in range(1, 10)]
    assert every[9:] == [*(f"figure-{number}" for number in (1, 3, 4, 5, 6)), "cost"]
    assert named(["figure-5", "all"])[0] == "figure-5" and len(named(["figure-5", "all"])) == len(every)


@pytest.mark.parametrize(
    ("text", "says"), [("table-0", "no 'table-0'"), ("demo", "no 'demo'"), ("figure2", "draws the method")]
)
def test_what_there_is_not_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        named([text])


def test_an_llm_is_written_with_its_embedder_or_without():
    assert LLM.parse("deepseek") == LLM("deepseek", "local")
    assert LLM.parse("openai/a, openai/b") == LLM("openai/a", "openai/b")
    assert [LLM("x/y", "local").label, LLM("x/y", "z").label] == ["With x/y", "With x/y, z"]
    own = LLM.parse("openai/a@http://one:8000/v1, openai/b@https://two/v1")
    assert own == LLM("openai/a", "openai/b", "http://one:8000/v1", "https://two/v1")
    assert own.label == "With openai/a, openai/b"
    assert LLM.parse("vertex_ai/gemini@001,local") == LLM("vertex_ai/gemini@001", "local")
    for text in ("", ",b", "a,", "a,b,c"):
        with pytest.raises(UsageError, match="--llm takes"):
            LLM.parse(text)


def test_a_plan_that_compares_llms_has_those_handed_and_local_last():
    table_8 = Plan.read(Path("table-8")).changed(data=["shop"])
    assert compares_llms(table_8)
    of_llm = {"llm": {"api_base": "http://here"}}
    plan = with_llms(table_8, [LLM("a/b", "c/d"), LLM("local", "local")], of_llm, {"llm": {"limit_users": 9}})
    first, local = (cell.settings() for cell in plan.cells())
    assert (first.llm.provider, first.embedding.embedder, first.llm.api_base) == ("a/b", "c/d", "http://here")
    assert (local.llm.provider, local.embedding.embedder, local.llm.api_base) == ("local", "local", None)
    assert first.llm.limit_users == local.llm.limit_users == 9
    assert [cell.label for cell in with_llms(table_8, []).cells()] == [cell.label for cell in table_8.cells()]


def test_table_8_asks_each_llm_and_each_embedder_at_its_own_server(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not a key")
    llms = [
        LLM.parse("openai/a@http://one/v1,openai/ea@http://two/v1"),
        LLM.parse("deepseek@http://three,openai/eb"),
        LLM.parse("openai/c,openai/ec"),
    ]
    of_llm = {"llm": {"api_base": "http://gate/v1"}}
    plan = with_llms(Plan.read(Path("table-8")).changed(data=["shop"]), llms, of_llm)
    asked = []
    for cell in plan.cells():
        providers = Providers(Workspace(tmp_path), cell.settings())
        embedder = providers.embedder.identity().get("api_base")
        asked.append((providers.backend.identity().get("api_base"), embedder))
    assert asked == [
        ("http://one/v1", "http://two/v1"),
        ("http://three", None),
        ("http://gate/v1", "http://gate/v1"),
        (None, None),
    ]
    arguments = plan.cells()[0].arguments("cpu")
    assert "llm.api_base=http://one/v1" in arguments and "embedding.api_base=http://two/v1" in arguments


def test_another_plan_is_handed_one_for_all_its_rows():
    table_3 = Plan.read(Path("table-3")).changed(data=["shop"])
    assert with_llms(table_3, []) == table_3
    plan = with_llms(table_3, [LLM("a/b", "c/d")], {"limits": {"price": "free"}})
    assert {(cell.settings().llm.provider, cell.settings().limits.price) for cell in plan.cells()} == {
        ("a/b", "free")
    }
    with pytest.raises(UsageError, match="give one"):
        with_llms(table_3, [LLM("a", "local"), LLM("b", "local")])
