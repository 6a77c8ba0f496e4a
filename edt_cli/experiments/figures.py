"""The paper's figures, of runs and of the data and artefacts that they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edt_cli.augmentation.artefact import Augmentation
from edt_cli.config import Settings, UsageError, UserError
from edt_cli.data.dataset import Dataset
from edt_cli.data.open import is_synthetic, open_dataset
from edt_cli.inference import augmented
from edt_cli.inference.augmentations import augmentation_of, augmenting_run, embeddings_of
from edt_cli.inference.labels import label_of, name_of
from edt_cli.llm.embeddings import ItemEmbeddings
from edt_cli.models.llm_edt_options import LLMEDTOptions
from edt_cli.models.systems import OURS, options_of, title_of
from edt_cli.reporting import paper_figures as paper
from edt_cli.reporting.figure import Figure
from edt_cli.reporting.grouping import shown_data, shown_system
from edt_cli.workspace.documents import Result
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import find_runs

FIGURES = (1, 3, 4, 5, 6)
"""Numbers of the paper's figures that can be made; figure 2 is a drawing of the method."""
OF_DATA = (1, 3)
"""Figures of data and artefacts, for which nothing is evaluated."""
LLMCDSR = "llmcdsr"
ALPHA = "options.alpha"


def check_figure(number: int) -> None:
    """Check that there is a figure of this number.

    Raises:
        UsageError: If there is none.
    """
    if number not in FIGURES:
        raise UsageError(f"there is no figure {number}; there are: {', '.join(map(str, FIGURES))}")


def figures_of(
    workspace: Workspace,
    number: int,
    results: Sequence[Result],
    *,
    data: Sequence[str] = (),
    metric: str = "hr@10",
    device: str = "cpu",
    events: Events | None = None,
) -> list[Figure]:
    """Return a figure of the paper for our runs: one for each protocol and dataset, as far as it depends on them.

    Args:
        workspace: Workspace of the runs.
        number: One of FIGURES.
        results: Results to show; figures 1 and 3 need none. An `Outcome` of a comparison is one.
        data: Datasets of figures 1 and 3, in place of those of the results.
        metric: Metric of figures 4 and 5.
        device: Device on which figure 6 is measured.
        events: Where progress is reported.

    Raises:
        UserError: If what the figure shows is not there; it says how to make it.
        UsageError: If there is no such figure.
    """
    check_figure(number)
    events = events or Events()
    whole = [result for result in results if not result["first_phase"]]
    if number in OF_DATA:
        names = list(data) or list(dict.fromkeys(result["data"] for result in results))
        return [_of_data(workspace, number, open_dataset(workspace, name), events) for name in names]
    if number == 4:
        return paper.figure_4(whole, metric)
    if number == 5:
        return paper.figure_5(_weighed(workspace, whole), metric)
    return [_figure_6(workspace, whole, device, events)]


def _of_data(workspace: Workspace, number: int, dataset: Dataset, events: Events) -> Figure:
    """Return figure 1 or 3 of a dataset, with what the newest runs of its systems add."""
    ours = newest_augmented(workspace, dataset, OURS)
    if number == 1:
        theirs = newest_augmented(workspace, dataset, LLMCDSR)
        return users_by_r(workspace, dataset, [system for system in (ours, theirs) if system is not None])
    if ours is None:
        raise UserError(
            f"figure 3 needs a run of LLM-EDT on {dataset.name}; make one with: edt train --data {dataset.name}"
        )
    events.progress("t-SNE", 0, 1)
    figure = items_by_domain(workspace, dataset, ours)
    events.progress("t-SNE", 1, 1)
    return figure


class Augmented(NamedTuple):
    """What a system adds to the histories of a dataset."""

    settings: Settings
    llm: str
    augmentation: Augmentation
    embeddings: ItemEmbeddings


def newest_augmented(workspace: Workspace, dataset: Dataset, model: str) -> Augmented | None:
    """Return what the newest finished run of a system adds, ablations aside; None if there is no run."""
    run = augmenting_run(workspace, dataset, model)
    if run is None:
        return None
    made = augmentation_of(workspace, run), embeddings_of(workspace, run, dataset)
    return Augmented(run.settings, run.plan["llm"], *made)


def users_by_r(workspace: Workspace, dataset: Dataset, systems: Sequence[Augmented]) -> Figure:
    """Return figure 1 of a dataset: users by r before augmentation, and after that of each system."""
    ratios = {"before": augmented.r_before(dataset)}
    for system in systems:
        model = system.settings.model.name
        ratios[shown_system(title_of(model), "", system.llm)] = (
            augmented.r_recalled(dataset, system.augmentation, system.settings)
            if model == LLMCDSR
            else augmented.r_inserted(dataset, system.augmentation)
        )
    states = [paper.State(label, np.histogram(r, augmented.EDGES)[0].tolist()) for label, r in ratios.items()]
    return paper.figure_1(_shown(workspace, dataset), augmented.EDGES.tolist(), states)


def items_by_domain(workspace: Workspace, dataset: Dataset, system: Augmented) -> Figure:
    """Return figure 3 of a dataset: its items before augmentation, and those with the inserted ones."""
    items = augmented.item_map(dataset, system.embeddings, system.augmentation)

    def places(mask: np.ndarray) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in items.places[mask]]

    placed, nearness = [], []
    near, (real, inserted) = items.neighbours, items.sizes
    for number, domain in enumerate(dataset.domains.names):
        of_domain = items.domains == number
        placed.append(paper.Placed(domain, places(items.catalogue & of_domain), False))
        placed.append(paper.Placed(f"inserted, {domain}", places(items.inserted & of_domain), True))
        if real[number]:
            nearness.append(
                paper.Nearness(
                    domain=domain,
                    items=int(real[number]),
                    before=float(near.before[number]),
                    after=float(near.after[number]),
                    inserted=int(inserted[number]),
                    of_inserted=float(near.inserted[number]) if inserted[number] else None,
                )
            )
    notes = [
        f"One t-SNE (seed {augmented.SEED}) of all items shown, at most {augmented.SAMPLE} of each domain and as "
        f"many inserted ones, so that both panels have the same places. Augmented by {system.llm}.",
    ]
    if items.catalogue.all():
        notes.append("All inserted items are of the catalogue, so that nothing was added to the space.")
    # The inserted items are drawn over the others.
    placed = sorted((kind for kind in placed if kind.places), key=lambda kind: kind.inserted)
    return paper.figure_3(_shown(workspace, dataset), placed, nearness, notes)


def _shown(workspace: Workspace, dataset: Dataset) -> str:
    return shown_data(dataset.name, is_synthetic(workspace, dataset.name), quick=bool(dataset.sample_of))


def _weighed(workspace: Workspace, results: Sequence[Result]) -> list[paper.Weighed]:
    """Return the runs of LLM-EDT without ablations, with their alpha."""
    ours = [result for result in results if result["model"] == OURS and not result["variant"]]
    runs = {result["run"]: find_runs(workspace, None, [result["run"]])[0] for result in ours}
    series = {name: name_of(run, without={ALPHA}) for name, run in runs.items()}
    several = len(set(series.values())) > 1
    weighed = []
    for result in ours:
        options = options_of(OURS, runs[result["run"]].settings.options)
        assert isinstance(options, LLMEDTOptions)
        label = series[result["run"]] if several else label_of(OURS, result["preset"], {})
        weighed.append(paper.Weighed(result, options.alpha, shown_system(label, "", result["llm"])))
    return weighed


def _figure_6(workspace: Workspace, results: Sequence[Result], device: str, events: Events) -> Figure:
    """Measure a run of each system and dataset, one after another."""
    from edt_cli.inference.latency import PASSES, USERS, latency

    chosen = list({(result["data"], result["label"], result["variant"]): result for result in results}.values())
    timed, how = [], ""
    for number, result in enumerate(chosen):
        events.progress("latency", number, len(chosen))
        (run,) = find_runs(workspace, None, [result["run"]])
        measured = latency(workspace, run, device)
        timed.append(paper.Timed(result, 1000 * measured["seconds"] / measured["users"]))
        where = measured["gpu"] or f"{measured['cpu']}, threads: {measured['threads']}"
        how = (
            f"Time a user: the fastest of {PASSES} or more passes over at most {USERS:,} test users, from their "
            f"histories to the ten best of all items of a domain; {where}."
        )
    events.progress("latency", len(chosen), len(chosen))
    return paper.figure_6(timed, how)
