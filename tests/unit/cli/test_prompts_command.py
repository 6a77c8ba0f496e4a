"""`edt prompts`: listed, shown, exported, checked."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from edt_cli.cli.app import app
from edt_cli.config import UserError
from edt_cli.llm.prompt_set import KINDS


def edt(*arguments: str):
    return CliRunner().invoke(app, ["prompts", *map(str, arguments)])


def test_prompts_are_exported_changed_checked_and_listed(tmp_path):
    folder = tmp_path / "mine"
    assert edt("export", folder).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {kind.file for kind in KINDS}
    again = edt("export", folder, "generate")
    assert isinstance(again.exception, UserError) and "--force" in str(again.exception)
    listed = json.loads(edt("list", "--prompts", folder, "--json").stdout)["prompts"]
    assert not any(row["own"] for row in listed)
    path = folder / "analyze.md"
    path.write_text(path.read_text("utf-8").replace("60 to 100 words", "40 words"), "utf-8")
    listed = json.loads(edt("list", "--prompts", folder, "--json").stdout)["prompts"]
    assert [row["prompt"] for row in listed if row["own"]] == ["analyze"]
    shown = edt("show", "analyze", "--prompts", folder)
    assert "40 words" in shown.stdout and "60 to" in edt("show", "analyze").stdout
    assert edt("check", folder).exit_code == 0
    path.write_text("# System\n\nBe brief.\n\n# User\n\n$summaries\n", "utf-8")
    checked = edt("check", folder, "--json")
    problems = {row["prompt"]: row["problem"] for row in json.loads(checked.stdout)["prompts"]}
    assert checked.exit_code == 1 and "$instruction is missing" in problems.pop("analyze")
    assert not any(problems.values())


def test_a_name_that_is_no_prompt_is_told_what_is_meant():
    for arguments in (("show", "genrate"), ("try", "genrate")):
        assert "did you mean generate" in str(edt(*arguments).exception)


def test_a_config_names_the_folder(tmp_path):
    config = tmp_path / "edt.toml"
    config.write_text('[llm]\nprompts = "nowhere"\n', "utf-8")
    assert "there is no folder nowhere" in str(edt("list", "--config", config).exception)
