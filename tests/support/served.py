"""A served run: SASRec as it starts, on a few users."""

from __future__ import annotations

from pathlib import Path

from toy import dataset, model_of

from edt_cli.models.batch import item_table
from edt_cli.serving.answers import Answers
from edt_cli.training.data import TrainingData
from edt_cli.workspace.runs import Run

MADE = dataset(
    {"u": ["a1", "b1", "a2", "a3"], "v": ["b1", "b2", "a1", "b3"], "w": ["a2", "a1", "b2"]},
    titles={"a1": "one", "a2": None, "a3": "three", "b1": "four", "b2": "five", "b3": "six"},
)
VIEW = MADE.training_view()
DATA = TrainingData(MADE, VIEW, VIEW.prefixes, item_table(MADE.domains, VIEW.prefixes), None)


def served(name: str = "a-run", seed: int = 0) -> Answers:
    return Answers(Run(Path(name), {"data": "toy"}), DATA, model_of("sasrec", DATA.table, seed).eval())
