"""The app on a made workspace, with the clock, the machine and the size of the disk held still."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made import NOW, make_workspace

from edt_cli.ui.app import EdtApp
from edt_cli.ui.machine import Gpu, Machine
from edt_cli.workspace.layout import Workspace

GPU = Gpu("H", 0.84, 31 << 30, 80 << 30, 412.0, 61)
MACHINE = Machine(0.32, 12 << 30, 64 << 30, (GPU, Gpu("H", None, None, None, None, 40)), 3 << 30)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("ui") / "ws").root


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of preferences that is nobody's."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder


@pytest.fixture
def workspace(made_once: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Read only: tests that write make their own. Its path is the same wherever tests run."""
    monkeypatch.chdir(made_once.parent)
    return Workspace(Path("ws"))


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words at any time, on any machine."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: NOW + 7200)
    monkeypatch.setattr("edt_cli.ui.run_screen.read_machine", lambda pid, device: MACHINE)
    monkeypatch.setattr("edt_cli.ui.home.size_on_disk", lambda path: 4_100_000_000)


@pytest.fixture
def app_on(workspace: Workspace) -> Callable[..., EdtApp]:
    def make(attach: str | None = None, **options: bool) -> EdtApp:
        folder = workspace.runs / attach if attach else None
        if attach == "jobs":
            (folder,) = workspace.jobs.iterdir()
        return EdtApp(workspace, folder, **{"ascii_only": False, "colour": True, "light": False, **options})

    return make
