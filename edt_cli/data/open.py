"""A prepared dataset by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edt_cli.workspace.layout import Workspace

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset


def open_dataset(workspace: Workspace, name: str) -> Dataset:
    """The prepared dataset; `demo` is prepared if it is not there. Errors: UserError how to get it."""
    from edt_cli.data.dataset import load

    if name == "demo":
        from edt_cli.data.prepare import ensure_demo

        ensure_demo(workspace)
    return load(workspace.dataset(name))
