"""Runs of a plan as tasks of a Ray cluster, whose machines share the workspace: its folder or object storage."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edt_cli.config import UsageError, UserError
from edt_cli.workspace.jobs import new_folder, start
from edt_cli.workspace.layout import Workspace

try:
    import ray
except ModuleNotFoundError as missing:
    raise UserError("a plan on a cluster needs Ray: pip install 'edt-cli[ray]'") from missing

RETRIES = 3
"""How often a run begins again whose worker has died; it goes on from its checkpoint."""
POLL_S = 0.5
NAME = "ray"


@dataclass(frozen=True)
class Resources:
    """What a run takes of the cluster.

    Attributes:
        cpus: Cores, and so threads.
        gpus: GPUs, or a share of one.
        memory: Memory in bytes that must be free; None to ask for none.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None


class RayJob:
    """A run as a task of the cluster."""

    def __init__(self, folder: Path, task: Any) -> None:
        self.folder = folder
        self._task = task
        self._ended: tuple[int, str] | None = None

    def code(self) -> int | None:
        if self._ended is None and ray.wait([self._task], timeout=0)[0]:
            try:
                self._ended = ray.get(self._task)
            except ray.exceptions.RayError as error:
                self._ended = 1, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return None if self._ended is None else self._ended[0]

    def last_words(self) -> str:
        return "" if self._ended is None else self._ended[1]

    def end(self) -> None:
        ray.cancel(self._task)
        while self.code() is None:
            time.sleep(POLL_S)


@dataclass(frozen=True)
class RayCluster:
    """Launcher of runs on a cluster."""

    resources: Resources

    @classmethod
    def connect(cls, on: str, resources: Resources) -> RayCluster:
        """Connect to a cluster, or start one of this machine's cores.

        Args:
            on: `ray` for this machine, or `ray:ADDRESS`.
            resources: What each run takes.

        Raises:
            UsageError: If `on` is neither, or the cluster has no machine with these resources.
            UserError: If the cluster cannot be reached.
        """
        name, _, address = on.partition(":")
        if name != NAME:
            raise UsageError(f"--on takes ray or ray:ADDRESS, such as ray:10.0.0.1:6379; got {on!r}")
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = str(error).strip().splitlines()[0]
            raise UserError(f"the Ray cluster at {address or 'this machine'} cannot be used: {said}") from None
        cluster = cls(resources)
        cluster.check()
        return cluster

    def check(self) -> None:
        """Check that some machine of the cluster has what a run takes.

        Raises:
            UsageError: If none has; a run would wait for ever.
        """
        if not self.places:
            asked = ", ".join(f"{much:g} {what}" for what, much in self._wanted.items())
            raise UsageError(f"no machine of the cluster has {asked}, which a run is to take")

    @property
    def places(self) -> int:
        """Number of runs that the cluster has room for at a time."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(min(int(node.get(what, 0) / much) for what, much in self._wanted.items()) for node in nodes)

    @property
    def _wanted(self) -> dict[str, float]:
        r = self.resources
        return {what: much for what, much in (("CPU", r.cpus), ("GPU", r.gpus), ("memory", r.memory)) if much}

    def __call__(
        self,
        workspace: Workspace,
        command: str,
        data: str,
        arguments: Sequence[str],
        width: int,
        environment: Mapping[str, str],
    ) -> RayJob:
        """Start a command as a task; its job's folder is made here, so that it can be watched from here."""
        folder = new_folder(workspace, command, data, arguments).absolute()
        task = ray.remote(_run).options(
            num_cpus=self.resources.cpus,
            num_gpus=self.resources.gpus,
            memory=self.resources.memory,
            max_retries=RETRIES,
            name=folder.name,
        )
        return RayJob(folder, task.remote(str(folder), list(arguments), width, dict(environment)))

    def close(self) -> None:
        """Leave the cluster, or end it if it was started here."""
        ray.shutdown()


def _run(folder: str, arguments: list[str], width: int, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command on a worker; return its exit status and its last words."""
    Path(folder).mkdir(parents=True, exist_ok=True)  # on a machine that shares no folder
    job = start(Path(folder), arguments, width, environment, outlives=False)
    try:
        while (code := job.code()) is None:
            time.sleep(POLL_S)
    finally:  # also when the task is cancelled
        if job.code() is None:
            job.end()
    return code, job.last_words() if code else ""
