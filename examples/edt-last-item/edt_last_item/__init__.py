"""What edt reads of this package: its system. The model is imported when it is used."""

from pathlib import Path

from edt_cli.models.systems import System

system = System(
    name="last-item",
    title="LastItem",
    paper="an example",
    year=None,
    preset=Path(__file__).with_name("preset.toml"),
    model="edt_last_item.model:LastItem",
)
