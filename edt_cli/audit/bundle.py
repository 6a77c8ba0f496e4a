"""A folder with all that stands behind tables, ready to be attached to a paper, and the audit of such a folder.

It holds what results hold: figures, ranks by the numbers of users and items, settings, manifests, digests. Ids of
users and items, texts of the catalogue, prompts, replies and profiles stay in the workspace, and so do host names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import polars as pl

from edt_cli.audit.checks import Audit, Check
from edt_cli.audit.results import first_difference, result_documents
from edt_cli.config import UserError
from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.inference.labels import name_of
from edt_cli.inference.reproduce import command_of
from edt_cli.workspace.documents import RANKS
from edt_cli.workspace.event_types import EpochEnded
from edt_cli.workspace.events import read_events
from edt_cli.workspace.files import explained
from edt_cli.workspace.layout import MANIFEST, Workspace, read_json
from edt_cli.workspace.machine import machine, versions
from edt_cli.workspace.provenance import SECRET, made_by
from edt_cli.workspace.runs import PLAN, RESULTS, Run
from edt_cli.workspace.version import __version__

CONTENTS, SUMS = "bundle.json", "SHA256SUMS"
NOT_SHOWN = ("host", "argv")
"""Facts of a process that say where somebody works, and not what a result rests on."""
README = """\
# What is in this folder

Made by edt {version}. All that stands behind the tables in `tables/`, so that others can check them.

- `tables/`: the tables in every form; `tables.json` and `tables.csv` have unrounded figures.
- `runs/RUN/`: settings and keys (`run.json`), parameters and phases (`manifest.json`), losses and validation
  figures of each epoch (`epochs.json`), the processes that made it (`processes.json`), figures
  (`results/NAME.json`), and the rank of every user's target (`results/NAME-ranks.parquet`; users, items and
  domains by number).
- `data/`: how each dataset was prepared: names and digests of the raw files, settings, counts of what was left out,
  digests of the result.
- `artefacts/`: how embeddings, generated items and profiles were made: settings, counts, costs, digests.
- `commands.sh`: what makes the runs again, and the command that made this folder.
- `environment.json`, `packages.txt`: versions, and the machine.
- `SHA256SUMS`: digests of all files; `sha256sum -c SHA256SUMS` or `edt audit DIR` compares them.

No ids of users or items, no texts of the catalogue, no prompts, replies or profiles are in here.
"""


def write_bundle(
    out: Path,
    workspace: Workspace,
    runs: Sequence[Run],
    rendered: Mapping[str, str],
    made_by_command: Sequence[str],
) -> int:
    """Write a bundle; an earlier one at the same place is replaced.

    Args:
        out: Folder to write.
        workspace: The workspace of the runs.
        runs: The runs behind the tables.
        rendered: The tables, by file name.
        made_by_command: Arguments of the command that makes the bundle, without secrets.

    Returns:
        Number of files.

    Raises:
        UserError: If the folder holds something else, or a file would hold a secret of the environment.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / CONTENTS).is_file())):
        raise UserError(f"{out} holds something else than a bundle; name a folder that is new, or empty")
    files = {f"tables/{name}": text.encode() for name, text in rendered.items()}
    files |= {name: content for run in runs for name, content in _of_run(run)}
    files |= dict(_of_inputs(workspace, runs))
    files |= {
        "README.md": README.format(version=__version__).encode(),
        "commands.sh": _commands(runs, made_by_command).encode(),
        "environment.json": _json({**versions(), **_shown(machine())}),
        "packages.txt": "".join(f"{line}\n" for line in _packages()).encode(),
        CONTENTS: _json(
            {
                "edt": __version__,
                "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "runs": {run.name: name_of(run) for run in runs},
                "data": sorted({run.plan["data"] for run in runs}),
            }
        ),
    }
    _refuse_secrets(files, os.environ)
    files[SUMS] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())
    ).encode()
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.making")
        shutil.rmtree(temporary, ignore_errors=True)
        for name, content in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
        if out.exists():
            shutil.rmtree(out)
        temporary.rename(out)
    return len(files)


def _of_run(run: Run) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a run."""
    folder = f"runs/{run.name}"
    for name in (PLAN, MANIFEST):
        yield f"{folder}/{name}", (run.folder / name).read_bytes()
    epochs = [event for event in read_events(run.folder) if isinstance(event, EpochEnded)]
    yield f"{folder}/epochs.json", _json([_epoch(event) for event in epochs])
    yield f"{folder}/processes.json", _json([_shown(process) for process in made_by(run.folder)])
    for document in result_documents(run):
        for end in (".json", RANKS):
            name = f"{RESULTS}/{document['file']}{end}"
            if (run.folder / name).is_file():
                yield f"{folder}/{name}", (run.folder / name).read_bytes()


def _epoch(event: EpochEnded) -> dict[str, Any]:
    figures = {"losses": event.losses, "ndcg@10": event.ndcg}
    return {"phase": event.phase, "epoch": event.epoch, "step": event.step, **figures}


def _of_inputs(workspace: Workspace, runs: Sequence[Run]) -> Iterator[tuple[str, bytes]]:
    """Yield the manifests of the datasets and artefacts of the runs, as far as they are there."""
    for name in sorted({run.plan["data"] for run in runs}):
        if (dataset := workspace.dataset(name)).complete:
            yield f"data/{name}.json", _json(dataset.manifest())
    for kind, key in sorted({one for run in runs for one in run.plan["artefacts"].items()}):
        if (artefact := workspace.artefact(kind, key)).complete:
            yield f"artefacts/{kind}-{key}.json", _json(artefact.manifest())


def _commands(runs: Sequence[Run], made_by_command: Sequence[str]) -> str:
    lines = ["#!/bin/sh", "# Prepare the data as the files in data/ say; then:"]
    lines += [shlex.join(["edt", *command_of(run)]) for run in runs]
    return "\n".join([*lines, shlex.join(made_by_command)]) + "\n"


def _packages() -> list[str]:
    """Return the installed packages with their versions, sorted."""
    return sorted({f"{one.metadata['Name']}=={one.version}" for one in distributions()}, key=str.lower)


def _shown(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in NOT_SHOWN}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _refuse_secrets(files: Mapping[str, bytes], environment: Mapping[str, str]) -> None:
    """Raise a UserError if a file holds the value of a variable of the environment that is named like a secret."""
    for variable, value in environment.items():
        if len(value) < 6 or not SECRET.search(variable.replace("_", "-")):
            continue
        for name, content in files.items():
            if value.encode() in content:
                raise UserError(f"nothing is written: {name} would hold the value of {variable}")


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle."""
    return (folder / CONTENTS).is_file()


def audit_bundle(folder: Path) -> Audit:
    """Compare the files of a bundle with their digests, and its figures with the ranks beside them.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{folder / SUMS} cannot be read") from None
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != SUMS
    }
    result = Audit(str(folder), f"bundle of {len(read_json(folder / CONTENTS)['runs'])} runs")
    different = sorted({name for name, _ in found.items() ^ recorded.items()})
    result.chain += [Check("files", False, f"{name}: {_difference(name, found, recorded)}") for name in different]
    if not different:
        result.chain.append(Check("files", True, f"{len(found)} files as they were written"))
    for path in sorted(folder.glob(f"runs/*/{RESULTS}/*.json")):
        result.chain.append(_figures(path, folder))
    return result


def _difference(name: str, found: Mapping[str, str], recorded: Mapping[str, str]) -> str:
    if name not in found:
        return "is missing"
    return "is not of the bundle" if name not in recorded else "changed after the bundle was written"


def _figures(path: Path, folder: Path) -> Check:
    """Compute the figures of a result from the ranks beside it."""
    name = path.relative_to(folder).as_posix()
    document = read_json(path)
    domains = list(read_json(folder / "data" / f"{document['data']}.json")["domains"])
    try:
        frame = pl.read_parquet(path.with_name(f"{path.stem}{RANKS}"), glob=False)
        ranks = frame.select("domain", rank=f"rank_{document['protocol']}")
    except (OSError, pl.exceptions.PolarsError) as error:
        return Check("results", False, f"{name}: its ranks cannot be read ({type(error).__name__})")
    cutoffs = sorted({int(key.partition("@")[2]) for key in document["overall"] if key.startswith("hr@")})
    of_domain = {name: ranks.filter(domain=number)["rank"].to_numpy() for number, name in enumerate(domains)}
    figures = {
        "domains": {name: ranking_metrics(values, cutoffs) for name, values in of_domain.items() if len(values)},
        "overall": ranking_metrics(ranks["rank"].to_numpy(), cutoffs),
    }
    if wrong := first_difference(document, figures):
        return Check("results", False, f"{name}: {wrong}")
    return Check("results", True, f"{name}: the figures of its {len(ranks):,} ranks")
