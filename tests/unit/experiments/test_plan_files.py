from __future__ import annotations

from pathlib import Path

import pytest

from edt_cli.config import UsageError, UserError
from edt_cli.experiments.files import PLANS, SEARCHES, names
from edt_cli.experiments.plan import Plan
from edt_cli.experiments.search import SearchSettings

PLAN = 'data = ["demo"]\n[[systems]]\nmodel = "popularity"\n'


@pytest.mark.parametrize("name", names(PLANS))
def test_a_plan_that_comes_with_edt_is_read_by_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert Plan.read(Path(name)).changed(data=["demo"]).cells()


@pytest.mark.parametrize("name", names(SEARCHES))
def test_a_search_that_comes_with_edt_is_read_by_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert SearchSettings.read(Path(name)).space


def test_a_path_is_a_file_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in (tmp_path / "demo", Path("mine.toml")):
        (tmp_path / given).write_text(PLAN)
        assert [entry.model for entry in Plan.read(given).systems] == ["popularity"]
    assert len(Plan.read(Path("demo")).systems) > 1, "the name stands for the one that comes with edt"


def test_an_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no plan 'table-0': give a file, or .* \(.*, demo, .*, table-2, .*\)"):
        Plan.read(Path("table-0"))
    with pytest.raises(UsageError, match=r"no search 'table-2': give a file, or .* \(best\)"):
        SearchSettings.read(Path("table-2"))
    with pytest.raises(UserError, match="cannot read"):
        Plan.read(tmp_path)
