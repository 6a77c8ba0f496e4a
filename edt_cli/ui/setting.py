"""Dialog on one setting: what it does, what it takes, its default."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Static

from edt_cli.config import Settings
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.settings import Setting, settings_of, written
from edt_cli.ui.tones import Tinted, lines, muted


class SettingDialog(ModalScreen[None]):
    """What a setting does, and how a run is given another value."""

    BINDINGS = [Binding("escape,q,enter", "dismiss", "Back", show=False)]
    DEFAULT_CSS = """
    SettingDialog { align: center middle; }
    SettingDialog Static { width: 78; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; }
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setting = setting_named(name)

    def compose(self) -> ComposeResult:
        setting = self.setting
        rows: list[list[str]] = [
            [Tinted(setting.about or setting.name, bold=True)],
            [],
            [muted("takes    "), setting.kind],
            [muted("default  "), written(setting.default)],
            [],
            [muted("a run with another value  "), f"edt train --set {setting.name}=..."],
            [muted("runs that have one        "), f"/ {setting.name}=... in 2 Runs"],
        ]
        box = Static(lines(rows), classes="frame", markup=False)
        box.border_title, box.border_subtitle = setting.name, "esc back"
        yield box


def setting_named(name: str) -> Setting:
    """Return a setting by its dotted name, those of LLM-EDT among the options."""
    section = name.partition(".")[0]
    values = LLMEDTOptions() if section == "options" else getattr(Settings(), section)
    return next(setting for setting in settings_of(f"{section}.", values) if setting.name == name)
