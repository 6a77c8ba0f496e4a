"""Access to prepared datasets by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edt_cli.workspace.layout import Workspace

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset


def open_dataset(workspace: Workspace, name: str) -> Dataset:
    """Load a prepared dataset; `demo` is prepared first if necessary.

    Raises:
        UserError: If there is no such dataset; the message says how to prepare it.
    """
    from edt_cli.data.saved import load

    if name == "demo" and not workspace.dataset(name).complete:
        from edt_cli.data.prepare import ensure_demo

        ensure_demo(workspace)
    return load(workspace.dataset(name))


def is_synthetic(workspace: Workspace, name: str) -> bool:
    """Return whether a prepared dataset is made up, as the demo is."""
    return bool(workspace.dataset(name).manifest().get("synthetic"))
