"""A search by several processes, on this machine or on a cluster: each takes the next trial of one study."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from edt_cli.config import UserError
from edt_cli.data.dataset import Dataset
from edt_cli.experiments.compare import POLL_S, WIDTH, Launcher
from edt_cli.experiments.files import STORAGE
from edt_cli.experiments.search import SearchSettings, trials_of
from edt_cli.experiments.study import JOURNAL
from edt_cli.workspace.event_types import Remark
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace


def search_by_many(
    workspace: Workspace,
    dataset: Dataset,
    space: Path,
    device: str,
    events: Events,
    *,
    processes: int,
    launcher: Launcher,
    storage: str | None = None,
) -> str:
    """Run the trials of a search by several processes, and return the storage of their study.

    When this process ends, it ends the processes that it started.

    Args:
        workspace: The workspace, whose folder all processes share.
        dataset: The dataset.
        space: The search: a file, or the name of one that comes with edt.
        device: Device of each trial.
        events: Where progress is reported.
        processes: Number of processes.
        launcher: Starts them.
        storage: Storage of the study; None for a file beside the trials.

    Raises:
        UsageError: If the search is not valid.
        UserError: If every process failed.
    """
    settings = SearchSettings.read(space)
    settings.check()
    folder = trials_of(workspace, dataset, settings).runs
    if space.is_file():  # where every machine can read it
        shutil.copy(space, folder / "space.toml")
        space = folder / "space.toml"
    storage = storage or str(folder / JOURNAL)
    arguments = ["search", str(space), "--data", dataset.name, "--device", device, "--workspace", workspace.address]
    jobs = [
        launcher(workspace, "search", dataset.name, arguments, WIDTH, {STORAGE: storage}) for _ in range(processes)
    ]
    at_work, failed = list(jobs), list[str]()
    try:
        while at_work:
            time.sleep(POLL_S)
            for job in list(at_work):
                if (code := job.code()) is None:
                    continue
                at_work.remove(job)
                if code:
                    failed.append(job.last_words().removeprefix("error: "))
                    events.emit(Remark(message=f"{job.folder.name} failed: {failed[-1]}"))
            events.progress("processes", len(jobs) - len(at_work), len(jobs))
    finally:
        for job in at_work:
            job.end()
    if len(failed) == len(jobs):
        raise UserError(f"every process of the search failed: {failed[0]}")
    return storage
