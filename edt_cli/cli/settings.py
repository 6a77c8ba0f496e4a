"""`edt settings`: every setting, its value in a preset, and what it does."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import JsonOption, show, stdout

if TYPE_CHECKING:
    from rich.text import Text

    from edt_cli.models.settings import Listed

INDENT = " " * 6


def settings(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SECTION[.FIELD]",
            help="Only these, such as `training` or `training.lr`.",
            autocompletion=complete.settings,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The system whose options are listed. Default: the preset's.",
            autocompletion=complete.models,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="Whose values are shown. Default: the system's own.", autocompletion=complete.presets
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List all settings, with their values in a preset: what each takes, its default, and what it does.

    Examples:
        edt settings training
        edt settings training.lr --preset sasrec-ce
        edt settings options --model llm4cdsr --json
    """
    from rich.text import Text

    from edt_cli.config import load_settings, preset_name
    from edt_cli.models.settings import list_settings
    from edt_cli.models.systems import OURS, system

    chosen = preset or system(model or OURS).preset
    flags = {"model": {"name": model}} if model else {}
    s = load_settings(chosen, flags=flags, environment={})
    sections = list_settings(s, name)
    document = {
        "model": s.model.name,
        "preset": preset_name(chosen),
        "settings": [
            {
                "name": setting.name,
                "type": setting.kind,
                "default": setting.default,
                "value": setting.value,
                "changed": setting.changed,
                "about": setting.about,
            }
            for section in sections
            for setting in section.settings
        ],
    }
    head = Text(f"{s.model.name}, preset {preset_name(chosen)}; * differs from the default")
    show(document, [head, *map(_text, sections)], as_json=json_)


def _text(section: Listed) -> Text:
    """Return a section as text; a table with five columns would need 120 columns."""
    from rich.text import Text

    from edt_cli.models.settings import written

    text = Text(f"\n[{section.name}] {section.about}", style="bold")
    for setting in section.settings:
        default = f", default {written(setting.default)}" if setting.changed else ""
        about = fill(setting.about, stdout().width, initial_indent=INDENT, subsequent_indent=INDENT)
        text.append(
            f"\n{'*' if setting.changed else ' '} {setting.name} = {written(setting.value)}",
            "not bold" if not setting.changed else "",
        )
        text.append(f"  ({setting.kind}{default})\n{about}", "not bold")
    return text
