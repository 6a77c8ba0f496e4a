"""Figures of data that has changed, or is gone, say so."""

import json
from pathlib import Path

import pytest
from test_road import document, edt

pytestmark = pytest.mark.e2e

EARLIER = "results of an earlier version of shop: "
PLAN = "data = ['shop']\nmethod = 'popularity'\n[[systems]]\nmodel = 'popularity'\n"


def prepare(root: Path, *more: str) -> None:
    items = {"a": 7, "b": 5}
    for domain, many in items.items():
        rows = [f"u{n // 4},{domain}{n % many},{1000 + n % 4}" for n in range(48)]
        (root / f"{domain}.csv").write_text("\n".join(["user,item,time", *rows, *more]) + "\n")
    edt(root, "data", "prepare", "shop", "--domain-file", str(root / "a.csv"), "--domain-file", str(root / "b.csv"))


def test_results_of_data_that_has_changed_or_is_gone_say_so(tmp_path):
    prepare(tmp_path)
    edt(tmp_path, "train", "--data", "shop", "--model", "popularity")
    (tmp_path / "plan.toml").write_text(PLAN)
    assert document(tmp_path, "eval", "--data", "shop")["data_changes"] == {}
    assert "version" not in edt(tmp_path, "report", "--data", "shop").stderr

    prepare(tmp_path, "newcomer,a0,2000")
    told = edt(tmp_path, "eval", "--data", "shop").stderr.splitlines()[-1]
    assert told.startswith(EARLIER) and told.endswith("; 12 users then, 13 now")
    for command in ("eval", "report"):
        done = edt(tmp_path, command, "--data", "shop", "--json")
        (change,) = json.loads(done.stdout)["data_changes"].values()
        assert done.stderr.splitlines() == [f"results {change}"] == [told]
    assert "has changed" in edt(tmp_path, "recommend", "--data", "shop", "--user", "u1", code=1).stderr
    # A plan finds runs by what they were trained on.
    assert "no run of" in edt(tmp_path, "report", "--plan", str(tmp_path / "plan.toml"), code=1).stderr

    edt(tmp_path, "data", "remove", "shop", "--yes")
    assert edt(tmp_path, "eval", "--data", "shop").stderr == "shop is no longer in the workspace\n"
