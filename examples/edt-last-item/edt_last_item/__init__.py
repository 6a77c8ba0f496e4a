"""What edt reads of this package: its systems. Their classes are imported when they are used."""

from pathlib import Path

from edt_cli import System

HERE = Path(__file__).parent

last_item = System(
    name="last-item",
    title="LastItem",
    paper="an example",
    year=None,
    preset=HERE / "last-item.toml",
    model="edt_last_item.model:LastItem",
)
newest = System(
    name="newest",
    title="Newest",
    paper="an example",
    year=None,
    preset=HERE / "newest.toml",
    model="edt_last_item.recency:Newest",
    trained=False,
)
