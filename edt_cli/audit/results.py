"""Results made again from the weights: candidates, ranks, figures, and the lists of recommended items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl

from edt_cli.audit.checks import Check
from edt_cli.config import EvaluationSettings, Protocol, Split, UserError
from edt_cli.data.dataset import Dataset
from edt_cli.evaluation.candidates import candidates, draw_again
from edt_cli.evaluation.evaluate import list_figures, rank_figures
from edt_cli.evaluation.lists import TOP
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.evaluation.ranking import rank
from edt_cli.inference.results import ranks_of
from edt_cli.inference.trained import load_trained
from edt_cli.models.scorers import Recommender
from edt_cli.training.data import TrainingData
from edt_cli.workspace.documents import LISTS, Figures, RunResult, result_name
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import RESULTS, Run

STEP = "results"
CELLS = ("hr@10", "ndcg@10")


@dataclass(frozen=True)
class Measured:
    """Results that one ranking serves: all of a split, of the same candidates, of one phase."""

    split: Split
    settings: EvaluationSettings
    first_phase: bool
    documents: Sequence[RunResult]


def result_documents(run: Run) -> list[RunResult]:
    """Return the result documents of a run, each with the name of its file."""
    paths = sorted((run.folder / RESULTS).glob("*.json"))
    return [
        cast(RunResult, {**document, "file": path.stem})
        for path, document in zip(paths, run.results(), strict=True)
    ]


def settings_of(document: RunResult) -> EvaluationSettings:
    """Return the settings that a result was measured with."""
    by_repeats = document.get("keep_seen_by", "setting") == "repeats"
    return EvaluationSettings.model_validate(
        {
            "protocol": document["protocol"],
            "negatives": document["negatives"] or EvaluationSettings().negatives,
            # Results from before repeats were counted kept no seen item.
            "keep_seen": "auto" if by_repeats else document.get("keep_seen", False),
        }
    )


def measured(run: Run) -> list[Measured]:
    """Group the results of a run by what one ranking serves."""
    groups: dict[tuple[Any, ...], list[RunResult]] = {}
    for document in result_documents(run):
        key = (document["split"], settings_of(document).keep_seen, document["first_phase"])
        groups.setdefault(key, []).append(document)
    return [
        Measured(split, settings_of(documents[0]), first_phase, documents)
        for (split, _, first_phase), documents in groups.items()
    ]


def cells(run: Run) -> list[dict[str, Any]]:
    """Return the figures of a run as tables show them: one entry for each result and domain."""
    return [
        {
            "file": document["file"],
            "domain": domain,
            "users": figures.get("users"),
            **{metric: figures.get(metric) for metric in CELLS},
        }
        for document in result_documents(run)
        for domain, figures in document["domains"].items()
    ]


def check_results(workspace: Workspace, run: Run, data: TrainingData, model: Recommender) -> Iterator[Check]:
    """Draw candidates, rank all targets and compute all figures again, and compare them with the run's.

    Args:
        workspace: The workspace of the run.
        run: A finished run.
        data: Data and artefacts of the run, on the device to rank on.
        model: What the run trained.
    """
    groups = measured(run)
    if not groups and run.settings.training.train_on != "all":
        yield Check(STEP, None, f"{run.name} is not evaluated yet: edt eval --run {run.name}")
    for group in groups:
        queries = data.queries(group.split, group.settings.keep_seen)
        drawn, problems = _candidates(workspace, data.dataset, group, queries)
        yield from problems
        trained = load_trained(data, run.settings, run.folder, first_phase=True) if group.first_phase else model
        scorer = trained.scorer(queries.inputs, queries.targets.domains)
        found = rank(scorer, queries, candidates=drawn, top=TOP)
        for document in group.documents:
            protocol = _protocol_key(document)
            yield _result(run, document, data.dataset, queries, found.by_protocol[protocol])
        if (lists := _lists(run, group, data.dataset, queries, found.top)) is not None:
            yield lists


def _protocol_key(document: RunResult) -> str:
    """Return the name of a document's candidates: `full`, or the protocol with its number of negatives."""
    return "full" if document["protocol"] == "full" else f"{document['protocol']}-{document['negatives']}"


def _candidates(
    workspace: Workspace, dataset: Dataset, group: Measured, queries: EvalQueries
) -> tuple[dict[str, np.ndarray], list[Check]]:
    """Return the candidates of the protocols that sample, drawn again, and those kept that are others."""
    drawn, problems = {}, []
    for document in group.documents:
        if document["protocol"] == "full":
            continue
        protocol, negatives = cast(Protocol, document["protocol"]), settings_of(document).negatives
        again = draw_again(dataset, group.split, negatives, keep_seen=queries.keep_seen, protocol=protocol)
        kept = candidates(
            workspace, dataset, group.split, negatives, keep_seen=queries.keep_seen, protocol=protocol
        )
        drawn[_protocol_key(document)] = again
        if not np.array_equal(again, kept):
            said = f"{document['file']}: the candidates that are kept are not those that the data seed draws"
            problems.append(Check("candidates", False, said))
    return drawn, problems


def _result(run: Run, document: RunResult, dataset: Dataset, queries: EvalQueries, again: np.ndarray) -> Check:
    """Compare a result with the ranks made again: targets, ranks, then the figures of the ranks in the file."""
    name = document["file"]
    try:
        frame = ranks_of(run, document)
    except UserError as error:
        return Check(STEP, False, f"{name}: {error}")
    targets = queries.targets
    expected = {"user": targets.users, "item": targets.items, "domain": targets.domains}
    if len(frame) != len(queries) or any((frame[key].to_numpy() != value).any() for key, value in expected.items()):
        return Check(STEP, False, f"{name}: its targets are not the {document['split']} targets of {dataset.name}")
    ranks = frame["rank"].to_numpy()
    different = np.flatnonzero(ranks != again)
    far = different[np.abs(ranks[different] - again[different]) > 1 + 0.01 * again[different]]
    if len(far):
        row = int(far[0])
        user = dataset.user_ids[int(targets.users[row])]
        return Check(
            STEP,
            False,
            f"{name}: {len(far):,} of {len(ranks):,} ranks are not what the weights give, such as that of user "
            f"{user}: {ranks[row]:g} in the file, {again[row]:g} by the weights",
        )
    cutoffs = sorted({int(key.partition("@")[2]) for key in document["overall"] if key.startswith("hr@")})
    figures = rank_figures(dataset, queries, ranks, cutoffs)
    # A result from before a grouping of users existed does not have it.
    figures["groups"] = {group: users for group, users in figures["groups"].items() if group in document["groups"]}
    if wrong := first_difference(document, figures):
        return Check(STEP, False, f"{name}: {wrong}")
    alike = "alike to the last digit" if not len(different) else f"{len(different):,} differ by rounding alone"
    of_them = "its figures are of these ranks"
    return Check(STEP, True, f"{name}: {len(ranks):,} ranks made again from the weights, {alike}; {of_them}")


def first_difference(document: Any, figures: Any) -> str:
    """Return where a document says something else than figures computed again, "" if nowhere."""
    said = dict(_leaves({key: document[key] for key in figures}))
    for path, value in _leaves(figures):
        if path not in said or not np.isclose(said[path], value, rtol=1e-9, atol=1e-12):
            return f"{path} is {said.get(path)} in the file, {value} by what was ranked"
    return ""


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the values of nested dictionaries with their paths."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}/")
        elif value is not None:
            yield f"{path}{key}", value


def _lists(run: Run, group: Measured, dataset: Dataset, queries: EvalQueries, again: np.ndarray) -> Check | None:
    """Check the recommended items of a full ranking, and what is told of them."""
    name = f"{result_name(group.split, group.settings, 'full', first_phase=group.first_phase)}{LISTS}"
    path = run.folder / RESULTS / name
    if not path.is_file():
        return None
    try:
        top = pl.read_parquet(path, glob=False)["top"].to_numpy()
    except (OSError, pl.exceptions.PolarsError) as error:
        return Check(STEP, False, f"{name} cannot be read ({type(error).__name__})")
    if top.shape != again.shape or top.max(initial=0) > dataset.domains.items:
        return Check(STEP, False, f"{name} has other lists than there are targets, or items out of the catalogue")
    same = float((top == again).all(axis=1).mean()) if len(top) else 1.0
    if same < 0.99:
        return Check(STEP, False, f"{name}: {1 - same:.1%} of the lists are not what the weights give")
    figures = list_figures(dataset, queries, top, None)
    for document in group.documents:
        told = {"domains": figures["domains"], "overall": figures["overall"]}
        known = {key: _known(told[key], document[key]) for key in told}  # type: ignore[literal-required]
        if wrong := first_difference(document, known):
            return Check(STEP, False, f"{document['file']}: {wrong}")
    return Check(STEP, True, f"{name}: {len(top):,} lists made again from the weights, {same:.2%} alike")


def _known(figures: Any, document: Any) -> Any:
    """Return the list metrics that a document has and that need no text vectors."""
    if all(isinstance(value, dict) for value in figures.values()):
        return {name: _known(values, document[name]) for name, values in figures.items() if name in document}
    known: Figures = {
        name: value for name, value in figures.items() if value is not None and document.get(name) is not None
    }
    return known
