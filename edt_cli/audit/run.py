"""Audit of a finished run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edt_cli.audit import chain, leaks, results
from edt_cli.audit.again import make_again
from edt_cli.audit.checks import Audit, Check, tried
from edt_cli.config import UserError
from edt_cli.data.open import open_dataset
from edt_cli.inference.labels import name_of
from edt_cli.inference.reproduce import command_of
from edt_cli.inference.trained import load_trained
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.stage_keys import OFF
from edt_cli.training.device import open_device
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.provenance import made_by
from edt_cli.workspace.runs import Run

Listener = Callable[[dict[str, Any]], None]


def audit(
    workspace: Workspace,
    run: Run,
    *,
    raw: Path | None = None,
    again: bool = False,
    listen: Listener = lambda record: None,
) -> Audit:
    """Check the chain behind a run's results, what it could have leaked, and perhaps make it again.

    Everything is computed again from what lies on disk; nothing is changed, and no LLM is asked.

    Args:
        workspace: The workspace of the run.
        run: A finished run.
        raw: Folder of the raw files, to compare their digests too.
        again: Make the run again, and compare it digit by digit.
        listen: Hears of progress.
    """
    found = Audit(run.name, name_of(run), cells=results.cells(run), command=command_of(run))
    dataset = workspace.dataset(run.plan["data"])
    if not dataset.complete:
        found.chain.append(Check(chain.DATA, False, f"{dataset.key} is no longer in the workspace"))
        found.chain += chain.artefacts_of(workspace, run, None)
        return found
    found.chain += tried(chain.RAW, lambda: chain.raw_files(dataset, raw))
    found.chain += tried(chain.DATA, lambda: chain.dataset_content(dataset))
    found.chain += tried(chain.DATA, lambda: chain.dataset_of_run(workspace, run))
    if any(check.passed is False and check.step == chain.DATA for check in found.chain):
        found.chain += chain.artefacts_of(workspace, run, None)
        found.leaks.append(Check("training", None, "not looked at: the data is not what the run was trained on"))
        return found
    pipeline = Pipeline(
        workspace=workspace,
        dataset=open_dataset(workspace, run.plan["data"]),
        settings=run.settings,
        device=str(open_device(run.plan.get("device", "cpu"))),
        preset=run.plan.get("preset"),
    )
    found.chain += tried("artefacts", lambda: list(chain.artefacts_of(workspace, run, pipeline)))
    found.chain += tried(chain.RUN, lambda: list(chain.run_itself(run, pipeline)))
    if pipeline.artefact_keys() != run.plan["artefacts"] or not all(
        workspace.artefact(kind, key).complete for kind, key in run.plan["artefacts"].items() if key != OFF
    ):
        found.leaks.append(
            Check("training", None, "not looked at: what the run was made from is not here as it was")
        )
        return found
    try:
        data = pipeline.material()
        model = load_trained(data, run.settings, run.folder)
    except UserError as error:
        found.chain.append(Check("artefacts", False, str(error)))
        return found
    if run.unsound:
        found.leaks.append(Check("protocol", False, f"unsound, {run.manifest()['unsound']}"))
    found.leaks += tried("leaks", lambda: list(leaks.check_leaks(workspace, run, pipeline, data, model)))
    found.chain += tried(results.STEP, lambda: list(results.check_results(workspace, run, data, model)))
    if again:
        with _threads_of(run):
            found.again += tried("again", lambda: make_again(workspace, run, pipeline, listen))
    return found


@contextmanager
def _threads_of(run: Run) -> Iterator[None]:
    """Compute with as many threads as the run did, since sums in another order round otherwise."""
    import torch

    before, recorded = torch.get_num_threads(), [process.get("threads") for process in made_by(run.folder)]
    if recorded and isinstance(recorded[-1], int) and recorded[-1] > 0:
        torch.set_num_threads(recorded[-1])
    try:
        yield
    finally:
        torch.set_num_threads(before)
