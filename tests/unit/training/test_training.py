"""Each model can overfit, a run resumes to the same result, an epoch holds every user once."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import KINDS, dataset, generated_items, model_settings, random_dataset

from edt_cli.config import Settings, TrainingSettings, UserError
from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.evaluation.ranking import rank
from edt_cli.inference import trained
from edt_cli.inference.trained import load_trained
from edt_cli.models.batch import domain_rows, item_table
from edt_cli.models.batches import epoch_batches
from edt_cli.models.plain import PlainModel
from edt_cli.models.sequential import NextItemPhase
from edt_cli.models.systems import make_model
from edt_cli.training import fit, loop
from edt_cli.training.data import TrainingData
from edt_cli.training.fit import train
from edt_cli.training.loop import learning_rate, optimizer_of
from edt_cli.workspace.events import Events, Stopped, read_events
from edt_cli.workspace.layout import read_json

pytestmark = pytest.mark.e2e


def data_of(made, profiles: bool = True) -> TrainingData:
    view = made.training_view()
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(made.domains.items + 1, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    table = item_table(made.domains, view.prefixes, vectors=vectors)
    of_users = torch.nn.functional.normalize(torch.randn(len(view.prefixes), 16)) if profiles else None
    generated = generated_items(made.domains, view.prefixes, table.text)
    return TrainingData(made, view, view.prefixes, table, of_users, generated)


def settings_of(kind: str = "llm-edt", training: dict | None = None, **model) -> Settings:
    """`training`: LLM-EDT's second phase, alignment and memory among it, of which other systems hear nothing."""
    second = {"finetune_epochs": 6, "finetune_min_steps": 4, "finetune_validate_steps": 2}
    values = {"batch": 16, "epochs": 4, **second, **(training or {})}
    chosen, own = model_settings(kind, **model)
    of_system = {name: values.pop(name) for name in list(values) if name not in TrainingSettings.model_fields}
    options = {**of_system, **own} if chosen.name == "llm-edt" else own
    return Settings(model=chosen, options=options, training=TrainingSettings(**values))


def cycle() -> dict[str, list[str]]:
    """Whoever had a0 goes on to b1, then a2, b3, a4, b5, and around again: one can know what comes next.

    Histories are of several lengths; the last six users' are so long that the others' positions are all known.
    """
    ring = ["a0", "b1", "a2", "b3", "a4", "b5"]
    return {
        f"u{user:02d}": [ring[(user + step) % 6] for step in range(14 if user >= 24 else 8 + user // 6)]
        for user in range(30)
    }


# LLM4CDSR on BERT4Rec takes longest by far, and has nothing that the two do not have by themselves.
LEARNERS = [(kind, "mixed") for kind in KINDS if kind != "llm4cdsr on bert4rec"] + [
    ("sasrec", "single"),
    ("gru4rec", "single"),
    ("bert4rec", "single"),
]


@pytest.mark.parametrize(("kind", "sequence"), LEARNERS)
def test_overfits_a_tiny_set(kind, sequence, tmp_path):
    material = data_of(dataset(cycle()))
    # To look at the item before the mask takes BERT4Rec longer to learn, and TriCDR has three encoders.
    longer = {"tricdr": 120}
    epochs = longer.get(kind, 250 if "bert4rec" in kind else 70)
    training = {
        "epochs": epochs,
        "batch": 30,
        "lr": 0.008,
        "finetune_epochs": 3,
        "loss": "ce",
        "negatives": 32,
        "alpha": 0.05,
    }
    # The last weights count.
    s = settings_of(kind, {**training, "train_on": "all"}, hidden=32, sequence=sequence)
    train(material, s, tmp_path, Events())
    asked = material.queries("test")
    scorer = load_trained(material, s, tmp_path).scorer(asked.inputs, asked.targets.domains)
    ranks = rank(scorer, asked).full[:24]
    assert (ranks == 1).mean() > 0.95


@pytest.mark.parametrize("loss", ["bpr", "bce", "ce", "top1", "bpr-max"])
def test_every_loss_learns(loss, tmp_path):
    made = dataset(cycle())
    s = settings_of("sasrec", {"epochs": 40, "lr": 0.02, "loss": loss, "negatives": 2, "patience": 40}, hidden=32)
    train(data_of(made), s, tmp_path, Events(tmp_path))
    losses = [e.losses["next_item"] for e in read_events(tmp_path) if e.event == "epoch" and e.losses]
    least = 0.5 if loss == "top1" else 0  # sigmoid of a negative's squared score
    assert losses[-1] - least < 0.3 * (losses[0] - least)


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_trains_in_bfloat16_as_in_float32(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "cpu_multiplies_bfloat16", lambda: True)  # this small, emulation is quick enough
    made, first = random_dataset(), {}
    for dtype in ("float32", "bfloat16"):
        training = {"epochs": 1, "dtype": dtype, "lr": 1e-4, "finetune_epochs": 1, "loss": "ce"}
        s = settings_of(kind, training, hidden=32)
        train(data_of(made), s, tmp_path / dtype, Events(tmp_path / dtype))
        events = read_events(tmp_path / dtype)
        first[dtype] = next(e.losses for e in events if e.event == "epoch" and e.losses)
        assert all(w.dtype != torch.bfloat16 for w in weights(tmp_path / dtype).values())
    assert first["bfloat16"] == pytest.approx(first["float32"], rel=0.04, abs=0.005)


@pytest.mark.parametrize("has", [True, False])
def test_a_processor_without_bfloat16_trains_in_float32_and_says_so(has, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "cpu_multiplies_bfloat16", lambda: has)
    made, found = random_dataset(), {}
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path / dtype
        done = train(data_of(made), settings_of("sasrec", {"epochs": 1, "dtype": dtype}), folder, Events(folder))
        found[dtype] = weights(folder), done["phases"]["pre-training"]["dtype"]
        told = [e.message for e in read_events(folder) if e.event == "precision"]
        fell_back = dtype == "bfloat16" and not has
        assert told == (["this processor has no bfloat16: trained in float32"] if fell_back else [])
    assert found["float32"][1] == "float32"
    assert found["bfloat16"][1] == ("bfloat16" if has else "float32")
    same = [torch.equal(one, found["bfloat16"][0][name]) for name, one in found["float32"][0].items()]
    assert all(same) == (not has)


def test_the_same_seed_gives_the_same_weights_to_the_last_digit(tmp_path):
    made = random_dataset()
    for name in ("one", "two"):
        train(data_of(made, profiles=False), settings_of(dropout=0.3), tmp_path / name, Events(tmp_path / name))
    for phase in ("pre-training", "fine-tuning"):
        one, two = (load_file(tmp_path / name / f"{phase}.safetensors") for name in ("one", "two"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """And the last state of all optimisers and all chance."""
    return {f"{p.stem} {k}": v for p in sorted(folder.glob("*.safetensors")) for k, v in load_file(p).items()}


@pytest.mark.parametrize("kind", ["llm-edt", "llmcdsr", "tricdr"])
@pytest.mark.parametrize("stop_at", [1, 3, 6, 8])
def test_a_run_that_was_stopped_goes_on_to_the_same_result(stop_at, kind, tmp_path):
    """Stopped within any of its two phases, in mid-epoch; also one whose phase has two optimisers."""
    made, s = random_dataset(), settings_of(kind, dropout=0.3)
    train(data_of(made, profiles=False), s, tmp_path / "whole", Events(tmp_path / "whole"))

    class Stopping(Events):
        steps = 0

        def obey(self, *, epoch_ended: bool = False) -> float:
            if not epoch_ended:
                self.steps += 1
                if self.steps == 3 * stop_at - 1:
                    raise Stopped
            return 0.0

    with pytest.raises(Stopped):
        train(data_of(made, profiles=False), s, tmp_path / "broken", Stopping(tmp_path / "broken"))
    train(data_of(made, profiles=False), s, tmp_path / "broken", Events(tmp_path / "broken"))
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [e.n for e in read_events(tmp_path / "broken")] == list(
        range(1, 1 + len(read_events(tmp_path / "broken")))
    )


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from test_training import data_of, settings_of
from toy import random_dataset
from edt_cli.workspace.events import Events
from edt_cli.training.fit import train
train(data_of(random_dataset(users=400), profiles=False), settings_of(dropout=0.3, training={{"epochs": 12}}),
      Path({folder!r}), Events(Path({folder!r})))
"""


def test_a_run_that_was_killed_goes_on_to_the_same_result(tmp_path):
    """kill -9 in training, at some moment."""
    made, s = random_dataset(users=400), settings_of(dropout=0.3, training={"epochs": 12})
    train(data_of(made, profiles=False), s, tmp_path / "whole", Events(tmp_path / "whole"))
    folder = tmp_path / "killed"
    here = Path(__file__)
    code = KILLED.format(path=[str(here.parent), str(here.parents[2] / "support")], folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while sum(e.event == "epoch" for e in read_events(folder)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train(data_of(made, profiles=False), s, folder, Events(folder))
    whole, resumed = weights(tmp_path / "whole"), weights(folder)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_epoch_holds_every_user_with_items_once():
    lengths = torch.from_numpy(np.random.default_rng(0).integers(0, 30, size=333))
    generator = torch.Generator().manual_seed(0)
    first = list(epoch_batches(lengths, 16, generator))
    rows = torch.cat(first)
    assert sorted(rows.tolist()) == torch.nonzero(lengths > 0).flatten().tolist()
    assert rows.tolist() != torch.cat(list(epoch_batches(lengths, 16, generator))).tolist()
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in first)
    assert padded < 1.3 * int(lengths.sum())


def test_single_domain_systems_train_on_one_domain_a_row():
    made = dataset({"u": ["a1", "b1", "a2", "b2", "a3", "b3"], "v": ["b1", "b2", "b3", "b1", "b2"]})
    table = item_table(made.domains, made.training_view().prefixes)
    rows = domain_rows(made.training_view().prefixes, table)
    assert [rows.of(row).tolist() for row in range(4)] == [[1, 2], [4, 5], [], [4, 5, 6]]


def test_fine_tuning_changes_the_threads_alone_and_never_loses_to_pre_training(tmp_path):
    made, s = random_dataset(users=120), settings_of(dropout=0.3, training={"finetune_lr": 0.05})
    notes = train(data_of(made), s, tmp_path, Events(tmp_path))
    before, after = (load_file(tmp_path / f"{name}.safetensors") for name in ("pre-training", "fine-tuning"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed <= {"threads"}
    phases = notes["phases"]
    assert phases["fine-tuning"]["best"] >= phases["pre-training"]["best"]
    assert phases["fine-tuning"]["notes"]["domain_to_global"] > 0


def test_nothing_to_learn_from_is_one_clear_line(tmp_path):
    made = dataset({"u": ["a1", "a2", "b1"], "v": ["a2", "b1", "b2"]})
    with pytest.raises(UserError, match="nothing to learn"):
        train(data_of(made), settings_of(), tmp_path, Events())


def test_a_loss_that_is_no_number_is_one_clear_line(tmp_path):
    s = settings_of("sasrec", {"lr": 1e30})
    with pytest.raises((UserError, ValueError), match="not finite"):
        train(data_of(random_dataset()), s, tmp_path, Events())


def test_one_domain_users_three_items_items_without_text_and_three_domains(tmp_path):
    made = dataset(
        {"u": ["a1", "a2", "a3"], "v": ["b1", "b2", "b3", "b1"], "w": ["c1", "a1", "c2", "b2", "c1"], "x": ["a1"]},
        titles={"a1": "one", "b2": None},
    )
    material = data_of(made)
    train(material, settings_of(), tmp_path, Events())
    asked = material.queries("test")
    assert len(asked) == 3


def test_the_learning_rate_warms_up_and_falls():
    s = TrainingSettings(schedule="cosine", warmup=10)
    rates = [learning_rate(1.0, step, 110, s) for step in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 0.001
    assert {learning_rate(1.0, step, 110, TrainingSettings()) for step in range(110)} == {1.0}


def decayed(model: torch.nn.Module, decay: float) -> list[dict]:
    return [{"params": list(model.parameters()), "weight_decay": decay}]


def test_decay_is_a_time_in_epochs_however_many_steps_one_has():
    for steps, lr in ((12, 1e-3), (400, 5e-4)):
        model = torch.nn.Linear(3, 3)
        phase = SimpleNamespace(
            parameter_groups=partial(decayed, model),
            steps_per_epoch=steps,
            lr=lr,
        )
        optimizer = optimizer_of(phase, TrainingSettings(decay_epochs=20))
        before = model.weight.detach().clone()
        for _ in range(20 * steps):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        torch.testing.assert_close(model.weight, before / math.e, rtol=0.01, atol=0)


def test_requests_from_outside_are_obeyed_between_steps(tmp_path):
    made, s = random_dataset(), settings_of()
    (tmp_path / "control.json").write_text(json.dumps({"request": "stop-after-epoch"}))
    with pytest.raises(Stopped):
        train(data_of(made), s, tmp_path, Events(tmp_path))
    epochs = [e.epoch for e in read_events(tmp_path) if e.event == "epoch"]
    assert epochs == [0, 1]
    assert not (tmp_path / "control.json").exists()


@pytest.mark.parametrize("rubbish", [b"", b"no safetensors at all", b"\xff" * 64])
def test_a_damaged_checkpoint_is_one_clear_line(rubbish, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(rubbish)
    with pytest.raises(UserError, match="remove the folder"):
        train(data_of(random_dataset()), settings_of(), tmp_path, Events())


def test_the_watched_ranking_chooses_the_epoch(tmp_path):
    """The best epoch is that of the figures that are told, which are those of the ranking that is asked for."""
    made, told = random_dataset(users=60, items=150), {}
    for watch in ("full", "sampled"):
        folder = tmp_path / watch
        train(data_of(made), settings_of("sasrec", {"watch": watch}), folder, Events(folder))
        told[watch] = [e.ndcg["mean"] for e in read_events(folder) if e.event == "epoch"]
        phase = read_json(folder / "phases.json")["pre-training"]
        assert phase["best"] == max(told[watch]) == told[watch][phase["best_epoch"]]
    # At the start both hold the same weights, and a hundred of 150 items are easier to be ahead of.
    assert told["sampled"][0] > told["full"][0]


def test_the_second_phase_of_joint_threads_starts_where_the_first_ended(tmp_path):
    """u + h^d stays, and u^d is learned upon it: at its start it is zero."""
    material = data_of(random_dataset())
    s = settings_of(
        "llm-edt with joint threads", {"finetune_lr": 0.05, "seen_negatives": False, "loss": "ce"}, threads="joint"
    )
    train(material, s, tmp_path, Events(tmp_path))
    told = [e for e in read_events(tmp_path) if e.event == "epoch"]
    fine = [e for e in told if e.phase == "fine-tuning"]
    assert fine[0].ndcg == max((e.ndcg for e in told if e.phase == "pre-training"), key=lambda n: n["mean"])
    assert fine[0].domain_to_global == 0 < fine[-1].domain_to_global


def test_what_a_user_has_had_is_no_negative_of_the_second_phase_either():
    made = random_dataset()
    material = data_of(made)
    s = settings_of("llm-edt", {"loss": "ce", "seen_negatives": False, "batch": 7})
    given = material.given(s)
    phase, rows = make_model(given).phases(given)[-1], given.on_device
    phase.enter()
    heard = []
    phase.objective = lambda at, *_: heard.append(at) or at.states.sum(1)
    phase.objective.settings = s.training
    for positions in phase.batches():
        phase.loss(positions)
    assert sum(len(at.targets) for at in heard) == int((rows.lengths - 1).clamp_min(0).sum())
    for at in heard:
        for target, had in zip(at.targets.tolist(), at.seen.tolist(), strict=True):
            histories = [set(material.sequences.of(u).tolist()) for u in range(len(material.sequences))]
            assert target in had and set(had) - {0} in histories


@pytest.mark.parametrize(("asked", "kept"), [("auto", True), (True, True), (False, False)])
def test_validation_and_negatives_follow_the_candidates(asked, kept, tmp_path, monkeypatch):
    """On data full of repeats, by itself or as asked: what stays a candidate is one at validation, too."""
    phases = []
    monkeypatch.setattr(fit, "run_phase", lambda phase, *more: phases.append(phase) or loop.run_phase(phase, *more))
    material = data_of(dataset(cycle()))
    s = settings_of("sasrec", {"epochs": 2, "loss": "ce", "negatives": 4, "seen_negatives": False})
    s = s.changed(evaluation={"keep_seen": asked})
    best = train(material, s, tmp_path, Events())["phases"]["pre-training"]["best"]
    assert [phase.objective.settings.seen_negatives for phase in phases] == [kept]
    found = {}
    for keep in (True, False):
        valid = material.queries("valid", keep)
        scorer = load_trained(material, s, tmp_path).scorer(valid.inputs, valid.targets.domains)
        ranks, domains = rank(scorer, valid).full, valid.targets.domains
        found[keep] = np.mean([ranking_metrics(ranks[domains == one])["ndcg@10"] for one in range(2)])
    assert best == pytest.approx(found[kept]) and found[True] < found[False]


class TwoPhases(PlainModel):
    """`names` of its phases; the second learns nothing but the item vectors, unless they are `frozen`."""

    names = ("mean", "scaling")
    frozen = False

    def phases(self, given):
        second = NextItemPhase(self, given, self.names[1], enter=self.only_items, lr=0.02)
        return [NextItemPhase(self, given, self.names[0]), second]

    def only_items(self):
        self.backbone.requires_grad_(False)
        self.encoder.requires_grad_(not self.frozen)


@pytest.fixture
def two_phases(monkeypatch):
    for module in (fit, trained):
        monkeypatch.setattr(module, "make_model", lambda given, **_: TwoPhases(given))
    return data_of(random_dataset()), settings_of("sasrec", {"epochs": 2, "lr": 0.01, "min_steps": 0})


def test_a_first_phase_of_any_name_is_what_it_was_after_it(two_phases, tmp_path):
    material, s = two_phases
    train(material, s, tmp_path, Events(tmp_path))
    rates = {phase.name: phase.lr for phase in TwoPhases(material.given(s)).phases(material.given(s))}
    assert rates == {"mean": 0.01, "scaling": 0.02}
    for first_phase, name in ((True, "mean"), (False, "scaling")):
        found = load_trained(material, s, tmp_path, first_phase=first_phase).state_dict()
        kept = load_file(tmp_path / f"{name}.safetensors")
        assert all(torch.equal(found[part], weight) for part, weight in kept.items())
    first, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("mean", "scaling"))
    assert {part for part in first if not torch.equal(first[part], last[part])} <= {"encoder.weight"}


def test_phases_that_cannot_be_told_apart_or_learn_nothing_are_one_line(two_phases, tmp_path, monkeypatch):
    material, s = two_phases
    monkeypatch.setattr(TwoPhases, "frozen", True)
    with pytest.raises(UserError, match="'scaling' has nothing to train"):
        train(material, s, tmp_path / "frozen", Events(tmp_path / "frozen"))
    monkeypatch.setattr(TwoPhases, "names", ("one", "one"))
    with pytest.raises(UserError, match="two phases named 'one'"):
        train(material, s, tmp_path / "twice", Events(tmp_path / "twice"))


def test_without_a_validation_target_the_last_weights_count(tmp_path):
    made = dataset(
        {f"u{n}": [f"a{(n + k) % 3}" if k % 2 else f"b{(n + k) % 4}" for k in range(6)] for n in range(12)}
    )
    made.target_positions["valid"][:] = 0
    s = settings_of("sasrec", {"epochs": 3, "watch": "sampled"})
    train(data_of(made), s, tmp_path, Events(tmp_path))
    events = read_events(tmp_path)
    assert [e.epoch for e in events if e.event == "epoch"] == [0, 1, 2, 3]
    assert [e.best_epoch for e in events if e.event == "epoch"][-1] == 3
    assert any("no validation target" in e.message for e in events)
