"""`edt reproduce claims`: the paper's claims, tested on the runs of the tables that they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edt_cli.cli.common import emit_json
from edt_cli.cli.planned import ask, end_with, failed_documents, make_runs, show_states
from edt_cli.cli.tables import DRAWN, write_tables
from edt_cli.cli.watch import stopping
from edt_cli.reporting.table import ENDINGS

if TYPE_CHECKING:
    from edt_cli.experiments.compare import Comparison
    from edt_cli.experiments.evidence import Wanted
    from edt_cli.experiments.plan import Cell
    from edt_cli.reporting.claims import ClaimResult
    from edt_cli.workspace.layout import Workspace


CLAIMS = "claims"
"""What `edt reproduce` calls them."""


def reproduce_claims(
    workspace: Workspace,
    wanted: Wanted,
    *,
    jobs: int,
    device: str,
    dry_run: bool,
    form: str,
    out: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Make the runs that test the claims, and show a verdict on each; with `dry_run` make none.

    Without two LLMs to compare, table 8 is only read.

    Raises:
        UsageError: If the form is one of figures.
    """
    from edt_cli.config import UsageError
    from edt_cli.experiments.llms import compares_llms
    from edt_cli.reporting.claims import claim_tables
    from edt_cli.reporting.render import document
    from edt_cli.training.device import open_device
    from edt_cli.workspace.jobs import at_work

    if form in DRAWN or (out is not None and ENDINGS.get(out.suffix) in DRAWN):
        raise UsageError("claims are tables, which are not drawn: give another --format")
    plans = _open(workspace, wanted)
    two_llms = len(wanted.llms) > 1
    to_make = {name: plan for name, plan in plans.items() if two_llms or not compares_llms(plan.plan)}
    if dry_run:
        results = _results(plans, None)
        show_states(to_make, as_json=as_json, more=claim_tables(results))
        return
    chosen = str(open_device(device))
    ask(list(to_make.values()), yes=yes)
    failed: dict[Cell, str] = {}
    with stopping(), at_work(workspace, "reproduce", CLAIMS) as events:
        for plan in to_make.values():
            failed |= make_runs(plan, events, jobs=jobs, device=device)
    results = _results(plans, chosen)
    tables = claim_tables(results)
    if as_json:
        part: dict[str, Any] = {
            "what": CLAIMS,
            "claims": results,
            "failed": failed_documents(failed),
            "tables": [document(table) for table in tables],
        }
        emit_json({"parts": [part]})
    else:
        write_tables(tables, form, out)
    end_with(failed)


def _open(workspace: Workspace, wanted: Wanted) -> dict[str, Comparison]:
    """Open the plans of the claims, with the paper's seeds if none are wanted.

    A plan that compares LLMs is handed all that are named, the others the first. It is left out if none is named
    and the workspace has no run of one, or if one of its own cannot be asked: that claim alone is then not tested.

    Raises:
        BackendError: If a named LLM cannot be asked.
    """
    from edt_backends.base import BackendError
    from edt_cli.experiments.claims import PLANS
    from edt_cli.experiments.llms import compares_llms
    from edt_cli.experiments.plan import Plan
    from edt_cli.paper.claims import SEEDS

    wanted = replace(wanted, seeds=wanted.seeds or SEEDS)
    plans = {}
    for name in PLANS:
        compares = compares_llms(Plan.read(Path(name)))
        if compares and not wanted.llms and not _runs_of_llms(workspace):
            continue
        plan = replace(wanted, llms=wanted.llms if compares else wanted.llms[:1]).open(workspace, name)
        try:
            plan.unique  # noqa: B018  (its keys need the names of the LLMs)
        except BackendError:
            if wanted.llms or not compares:
                raise
            continue
        plans[name] = plan
    return plans


def _runs_of_llms(workspace: Workspace) -> bool:
    """Return whether there is a run that an LLM was asked for; to look for others would import what asks them."""
    from edt_backends.local import LocalChat
    from edt_cli.workspace.runs import all_runs

    return any(run.plan.get("llm") not in ("", None, LocalChat.name) for run in all_runs(workspace))


def _results(plans: Mapping[str, Comparison], device: str | None) -> list[ClaimResult]:
    from edt_cli.experiments.claims import claim_results

    datasets = next(iter(plans.values())).datasets
    return [result for data in datasets for result in claim_results(plans, data, device)]
