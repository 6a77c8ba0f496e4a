"""Study of a search: Optuna's, in a file or a database that several processes on several machines may share."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from edt_cli.config import UserError
from edt_cli.workspace.event_types import Remark
from edt_cli.workspace.jobs import alive, heartbeat
from edt_cli.workspace.provenance import without_secrets

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState
except ModuleNotFoundError as missing:
    raise UserError("a search needs Optuna: pip install 'edt-cli[search]'") from missing

if TYPE_CHECKING:
    from edt_cli.pipeline import Pipeline
    from edt_cli.workspace.events import Events

DATABASE, JOURNAL = "study.db", "study.journal"
PROCESS = "process"
"""Attribute of a trial: the process that makes it."""


@dataclass
class Study:
    """Study of a search.

    Attributes:
        optuna: Optuna's study.
        folder: Folder of the trials, which all processes share.
        seed: Seed of the search.
        pipeline_of: Function that returns the pipeline of a trial by its choices; None if it is only read.
        shared: Whether other processes may work on it at the same time.
    """

    optuna: optuna.Study
    folder: Path
    seed: int
    pipeline_of: Callable[[dict[str, Any]], Pipeline] | None
    shared: bool

    @classmethod
    def open(
        cls,
        folder: Path,
        seed: int,
        storage: str | None,
        pipeline_of: Callable[[dict[str, Any]], Pipeline] | None = None,
    ) -> Study:
        """Open the study in a storage, else that of the folder, where processes of one machine may share it.

        The study has the folder's name.

        Raises:
            UserError: If the storage cannot be used.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = folder / JOURNAL
        if storage is None and journal.exists():
            storage = str(journal)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=4)
        try:
            study = optuna.create_study(
                study_name=folder.name,
                storage=_storage(storage or f"sqlite:///{folder / DATABASE}"),
                load_if_exists=True,
                direction="maximize",
                pruner=pruner,
            )
            opened = cls(study, folder, seed, pipeline_of, storage is not None)
            if pipeline_of is not None:
                with opened._lock:
                    opened._draw_anew()
                    opened._hand_back()
                    if opened.trials(TrialState.RUNNING):
                        opened.shared = True
        except Exception as error:  # of Optuna, SQLAlchemy or the database's own library
            if storage is None:
                raise
            shown, secret = without_secrets([storage])[0], storage.partition("://")[2].partition("@")[0]
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            said = said.replace(storage, shown).replace(secret, "***") if "@" in storage else said
            raise UserError(f"the storage {shown} cannot be used: {said}") from None
        return opened

    def next(self, wanted: int, events: Events) -> Trial | None:
        """Return the next trial; None if as many as are wanted are done or at work."""
        with self._lock:
            self._hand_back()
            # Read once: a trial that ends between two reads would be counted by neither.
            states = Counter(trial.state for trial in self.trials(*TrialState))
            done, others = states[TrialState.COMPLETE] + states[TrialState.PRUNED], states[TrialState.RUNNING]
            if done + others >= wanted:
                return None
            elsewhere = f", and {others} are at work in other processes" if others else ""
            message = f"search {self.folder.name}: {wanted - done} of {wanted} trials are left{elsewhere}"
            events.emit(Remark(message=message))
            if self.shared:
                self._draw_anew()
            trial = self.optuna.ask()
            trial.set_user_attr(PROCESS, {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()})
            return trial

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in some states."""
        return self.optuna.get_trials(deepcopy=False, states=states)

    @property
    def _lock(self) -> FileLock:
        return FileLock(self.folder / ".study.lock")

    def _draw_anew(self) -> None:
        """Take a sampler of its own seed: with that of the search alone, its first trials would be drawn again."""
        self.optuna.sampler = optuna.samplers.TPESampler(
            seed=self.seed + len(self.optuna.trials), n_startup_trials=6, constant_liar=self.shared
        )

    def _hand_back(self) -> None:
        """Queue again the trials of processes that are gone; their runs go on from their checkpoints."""
        for trial in self.trials(TrialState.RUNNING):
            if not self._at_work(trial):
                self.optuna.tell(trial.number, state=TrialState.FAIL)
                self.optuna.enqueue_trial(trial.params)

    def _at_work(self, trial: FrozenTrial) -> bool:
        """Return whether another process makes a trial: on another machine, by the heartbeat of its run."""
        process = trial.user_attrs.get(PROCESS, {})
        here = process.get("host") == socket.gethostname()
        if here and process.get("pid") == os.getpid():
            return False  # this one asks for its next
        if alive(process) or here or not trial.params or self.pipeline_of is None:
            return alive(process)
        run = self.pipeline_of(trial.params).existing()
        return run is not None and alive(heartbeat(run.folder))


def _storage(place: str) -> str | JournalStorage:
    return place if "://" in place else JournalStorage(JournalFileBackend(place))
