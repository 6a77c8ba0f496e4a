"""The chain from the raw files over the dataset and the artefacts to the run: content, digests and keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file

from edt_backends.base import BackendError
from edt_cli.audit.checks import Check
from edt_cli.config import DataSettings, UserError
from edt_cli.data.item_vectors import FILE as VECTORS
from edt_cli.data.item_vectors import vectors_key
from edt_cli.data.sample import sample_key
from edt_cli.data.saved import contents, data_key
from edt_cli.models.systems import options_of
from edt_cli.pipeline import Pipeline, keys
from edt_cli.pipeline.stage_keys import OFF
from edt_cli.pipeline.store import Tries
from edt_cli.workspace.layout import Artefact, Workspace, content_digest, file_digest, file_digests
from edt_cli.workspace.runs import Run, data_change

RAW, DATA, RUN = "raw files", "dataset", "run"
SECTIONS = {"augmentation": "augmentation", "profiles": "profiling"}
"""Section of the settings that each LLM stage is made with."""


def raw_files(dataset: Artefact, folder: Path | None) -> list[Check]:
    """Compare the raw files with the digests that the dataset recorded.

    Args:
        dataset: The prepared dataset.
        folder: Where the files are, at any depth; None if they are not at hand.
    """
    manifest = dataset.manifest()
    source = manifest.get("source", [])
    if parent := manifest.get("sample_of"):
        return [Check(RAW, None, f"{dataset.key} is a small sample of {parent}: audit a run on that dataset")]
    if not source:
        if manifest.get("synthetic"):
            return [Check(RAW, True, f"{dataset.key} has none: edt itself made it up")]
        return [Check(RAW, None, f"{dataset.key} does not record any")]
    if folder is None:
        names = ", ".join(f"{one['file']} ({one['sha256']})" for one in source)
        return [Check(RAW, None, f"recorded, compared with --raw DIR only: {names}")]
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; --raw takes the one that the raw files are in")
    return [_raw_file(one, folder) for one in source]


def _raw_file(recorded: Mapping[str, Any], folder: Path) -> Check:
    name = recorded["file"]
    found = [path for path in sorted(folder.rglob(name)) if path.is_file()]
    if not found:
        return Check(RAW, None, f"{name} is not in {folder}")
    if any(file_digest(path) == recorded["sha256"] for path in found):
        return Check(RAW, True, f"{name}: {recorded['sha256']}, {recorded['bytes']:,} bytes")
    return Check(RAW, False, f"{name} is not the file that the dataset was made from ({recorded['sha256']})")


def dataset_content(dataset: Artefact) -> Check:
    """Compute the digests of a dataset's tables and its key again."""
    manifest = dataset.manifest()
    try:
        found = contents(dataset.path)
        if key := manifest.get("item_vectors", {}).get("key"):
            found[VECTORS] = vectors_key(load_file(dataset.path / VECTORS)["vectors"])
            manifest["content"].setdefault(VECTORS, key)
    except (OSError, SafetensorError, pl.exceptions.PolarsError) as error:
        return Check(DATA, False, f"{dataset.key} cannot be read ({type(error).__name__})")
    recorded: Mapping[str, str] = manifest["content"]
    if changed := [name for name, digest in found.items() if recorded.get(name) != digest]:
        return Check(DATA, False, f"{dataset.key}: {', '.join(changed)} changed after the dataset was made")
    saved = {name: manifest[name] for name in ("domains", "domain_starts")}
    settings = DataSettings.model_validate({"repeats": "keep", **manifest["settings"]})
    if "sample_of" in manifest:
        name = manifest["sample_of"]
        parent = Artefact("data", name, dataset.path.with_name(name))
        known = [sample_key(parent.manifest()["data_key"])] if parent.complete else []
    else:
        known = [data_key({**saved, "content": dict(recorded)}, settings)]
    if known and manifest["data_key"] not in known:
        return Check(DATA, False, f"{dataset.key}: its key is not that of its tables and settings")
    counts = f"{manifest['users']:,} users, {manifest['interactions']:,} interactions"
    return Check(DATA, True, f"{dataset.key}, key {manifest['data_key']}: {len(found)} tables as made; {counts}")


def dataset_of_run(workspace: Workspace, run: Run) -> Check:
    """Compare the key of the dataset with the one that the run was trained on."""
    change = data_change(workspace, run)
    if change:
        return Check(DATA, False, change)
    return Check(DATA, True, f"the run was trained on this dataset: {run.dataset_key}")


def artefacts_of(workspace: Workspace, run: Run, pipeline: Pipeline | None) -> Iterator[Check]:
    """Check the artefacts that a run reads: their files, their settings, and their keys.

    Args:
        workspace: The workspace.
        run: The run.
        pipeline: The pipeline of the run's settings; None if its dataset is not there.
    """
    expected = {} if pipeline is None else _expected_keys(pipeline, run)
    made_from = run.manifest().get("made_from", {}) if run.finished else {}
    for kind, key in run.plan["artefacts"].items():
        artefact = workspace.artefact(kind, key)
        if key == OFF:
            off = not getattr(run.settings, SECTIONS[kind]).enabled
            yield Check(kind, off, "switched off" if off else "run.json: it is switched on, but has no key")
        elif not artefact.complete:
            yield Check(kind, None, f"{key} is not in the workspace any more")
        else:
            yield _artefact(artefact, run, expected.get(kind), made_from.get(kind))


def _artefact(artefact: Artefact, run: Run, expected: set[str] | None, made_from: str | None) -> Check:
    kind, key, manifest = artefact.kind, artefact.key, artefact.manifest()
    found, recorded = file_digests(artefact.path), manifest.get("files")
    if recorded is not None and (changed := sorted({name for name, _ in found.items() ^ recorded.items()})):
        return Check(kind, False, f"{key}: {', '.join(changed)} changed after it was made")
    if made_from is not None and made_from != content_digest(found):
        return Check(kind, False, f"{key}: its tables are not those that the run was made from")
    if section := SECTIONS.get(kind):
        now = getattr(run.settings, section).model_dump()
        if other := [name for name, value in manifest["settings"].items() if now.get(name, value) != value]:
            return Check(kind, False, f"{key} was made with another {section}.{other[0]} than the run says")
    if expected is not None and key not in expected:
        return Check(kind, False, f"{key} is not the key of this data and these settings in this version of edt")
    hashed = recorded is not None or made_from is not None
    files = f"{len(found)} files as made" if hashed else "made before files were hashed"
    what = "the key is that of its inputs" if expected is not None else "its inputs cannot be compared here"
    return Check(kind, True if hashed else None, f"{key}: {files}; {what}")


def _expected_keys(pipeline: Pipeline, run: Run) -> dict[str, set[str]]:
    """Return the keys that each artefact may have, of every number of times that failed questions were asked again.

    They are empty if the embedder or the LLM cannot be named here, as without its package.
    """
    recorded = run.plan["artefacts"]
    try:
        first = {kind: pipeline.first_key(kind) for kind in ("augmentation", "profiles") if kind in recorded}
        possible = {"embeddings": {pipeline.embeddings_key}} if "embeddings" in recorded else {}
    except (UserError, BackendError):
        return {}
    tries = Tries(pipeline.workspace)
    if "profiles" in first and recorded.get("augmentation", OFF) not in (OFF, pipeline.augmentation_key):
        # Profiles of an augmentation of which questions were asked again later.
        del first["profiles"]
    for kind, key in first.items():
        possible[kind] = {keys.retried_key(key, number) for number in range(tries.of(key) + 1)}
    return possible


def run_itself(run: Run, pipeline: Pipeline) -> Iterator[Check]:
    """Check the run's key, which its settings, data and artefacts make, and its weights."""
    s, plan = run.settings, run.plan
    options = options_of(s.model.name, s.options).model_dump()
    key = keys.run_key(pipeline.view.key, s, plan["artefacts"], options, keep_seen=plan.get("keep_seen", False))
    if key != plan["key"] or not run.name.endswith(key[:8]):
        yield Check(RUN, False, f"run.json: its settings are not those of the key {plan['key']}")
    else:
        yield Check(RUN, True, f"{run.name}: settings, data and artefacts make its key, {key}")
    recorded = run.manifest().get("weights")
    if recorded is None:
        if (phases := run.manifest().get("phases")) is not None:
            yield Check(RUN, None, f"weights of {', '.join(phases)}: made before they were hashed")
        return
    found = {name: file_digest(run.folder / name) for name in recorded if (run.folder / name).is_file()}
    if changed := [name for name, digest in recorded.items() if found.get(name) != digest]:
        yield Check(RUN, False, f"weights: {', '.join(changed)} changed after training")
    elif recorded:
        files = ", ".join(f"{name} {digest}" for name, digest in recorded.items())
        yield Check(RUN, True, f"weights as trained: {files}")
