"""The pipeline: trains a run, continues it, or finds it finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from edt_cli.config import UserError
from edt_cli.models.llm_edt_options import UNSOUND
from edt_cli.models.systems import checked, needs, options_of, system
from edt_cli.pipeline import keys
from edt_cli.pipeline.stages import Stages
from edt_cli.workspace.event_types import RunBegun, RunDone, RunFailed, RunFinished, RunStopped, Skipped
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import content_digest, file_digest, file_digests, write_json
from edt_cli.workspace.provenance import recorded
from edt_cli.workspace.runs import Run, existing_run, open_run

Listener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Pipeline(Stages):
    """Stages and training of one run; `run` makes all that is missing."""

    @property
    def keep_seen(self) -> bool:
        """Whether items that a user has seen stay candidates, at validation and so in training."""
        return self.dataset.keeps_seen(self.settings.evaluation.keep_seen)

    @cached_property
    def first(self) -> Self | None:
        """The run that tells how long to train, if nothing is held out to stop by; None if none is needed."""
        s = self.settings
        if s.training.train_on == "train" or s.training.schedules or not system(s.model.name).trained:
            return None
        return replace(self, settings=s.changed(training={"train_on": "train"}), shared=self.providers)

    @cached_property
    def run_key(self) -> str:
        """Key of the run."""
        s = self.settings
        options = options_of(s.model.name, s.options).model_dump()
        return keys.run_key(self.view.key, s, self.artefact_keys(), options, keep_seen=self.keep_seen)

    def run(self, listeners: tuple[Listener, ...] = ()) -> Run:
        """Train this run, or continue its training; do nothing if it is finished.

        With nothing held out to stop by, the run that tells how long to train is made first if it is missing.
        """
        s = self.settings
        pipeline = self if self.first is None else self._scheduled(listeners)
        run = open_run(self.workspace, pipeline._plan())
        with run.alone(self.events):
            if run.finished:
                message = f"run {run.name} is finished already, nothing to do"
                self.events.emit(Skipped(run=run.name, seed=s.training.seed, message=message))
                return run
            from edt_cli.training.device import in_use

            try:
                with recorded(run.folder, **in_use(self.device)):
                    return pipeline._made(run, listeners)
            except KeyboardInterrupt:
                Events(run.folder, listeners).emit(RunStopped(request="interrupt"))
                raise

    def existing(self) -> Run | None:
        """Return the run of these settings, finished or not; None if it was never started."""
        return existing_run(self.workspace, self._plan())

    def _scheduled(self, listeners: tuple[Listener, ...]) -> Self:
        """Return the pipeline that trains as long as was best for the run of these settings with a validation."""
        assert self.first is not None
        s, run = self.settings, self.first.run(listeners)
        manifest = run.manifest()
        schedules = {
            name: {
                "epochs": phase["best_epoch"],
                "planned_epochs": phase.get("planned_epochs") or s.training.epochs,
                "cuts": phase["cuts"],
            }
            for name, phase in manifest.get("phases", {}).items()
        }
        changes = {"schedules": schedules, "side_weights": manifest.get("side_weights")}
        return replace(self, settings=self.settings.changed(training=changes), shared=self.providers)

    def _plan(self) -> dict[str, Any]:
        given = self.dataset.vectors
        vectors = {"item_vectors": given.label} if given and "item text" in needs(self.settings.model) else {}
        return {
            "data": self.dataset.name,
            "data_key": self.view.key,
            "users": len(self.dataset.user_ids),
            "key": self.run_key,
            "settings": checked(self.settings).document(),
            "preset": self.preset,
            "keep_seen": self.keep_seen,
            "artefacts": self.artefact_keys(),
            "llm": self.llm_name,
            **vectors,
            "device": self.device,
            **({"quick": True} if self.dataset.sample_of else {}),
            **({"unsound": unsound} if (unsound := self.departures.unsound) != "none" else {}),
        }

    def _made(self, run: Run, listeners: tuple[Listener, ...]) -> Run:
        s = self.settings
        # A request to pause or stop an earlier process does not apply to this one.
        (run.folder / "control.json").unlink(missing_ok=True)
        self.events.emit(RunBegun(run=run.name, seed=s.training.seed))
        # From now on, a list of runs shows that a process makes this one.
        Events(run.folder).progress("starting", 0, 1)
        material = self.material()
        events = Events(run.folder, listeners)
        manifest: dict[str, Any] = {"plan": run.plan}
        if run.unsound:
            manifest["unsound"] = f"not a result: {UNSOUND[self.departures.unsound]}"
        if system(s.model.name).trained:
            from edt_cli.distributed.group import LOST, is_lost, processes
            from edt_cli.distributed.launch import order
            from edt_cli.distributed.replicas import SharedEvents
            from edt_cli.training.fit import train

            together = ""
            if processes() > 1:
                events, together = SharedEvents(run.folder, listeners), f" in {processes()} processes"
            events.emit(RunBegun(run=run.name, message=f"training {run.name} on {self.device}{together}"))
            try:
                with events.gently_interrupted():
                    order(run.folder, self.workspace.root, compiled=self.compiled, sharded=self.sharded)
                    manifest |= train(material, s, run.folder, events, compiled=self.compiled, sharded=self.sharded)
            except UserError as error:
                events.emit(RunFailed(error=str(error)))
                raise
            except RuntimeError as error:
                if is_lost(error):
                    message = LOST
                elif "memory" in str(error):
                    message = "there is not enough memory: try a smaller training.batch or training.negatives"
                else:
                    events.emit(RunFailed(error=f"{type(error).__name__}: {error}"[:500]))
                    raise
                events.emit(RunFailed(error=message))
                raise UserError(message) from None
        manifest |= self._hashed(run)
        manifest |= {"failed_shares": shares} if (shares := self.failed_shares()) else {}
        write_json(run.folder / "manifest.json", manifest)
        events.emit(RunFinished(run=run.name, message=f"run {run.name} is finished"))
        self.events.emit(RunDone(run=run.name))
        return run

    def _hashed(self, run: Run) -> dict[str, Any]:
        """Return the digests of the run's weights, and of the artefacts that it was made from."""
        from edt_cli.training.loop import CHECKPOINT

        artefacts = [self.workspace.artefact(kind, key) for kind, key in run.plan["artefacts"].items()]
        made_from = {one.kind: content_digest(file_digests(one.path)) for one in artefacts if one.complete}
        weights = sorted(path for path in run.folder.glob("*.safetensors") if path.name != CHECKPOINT)
        return {"weights": {path.name: file_digest(path) for path in weights}, "made_from": made_from}
