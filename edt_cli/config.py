"""Every setting, typed and validated; and the one error that is a user's to mend.

Precedence, strongest first: flag, environment (`EDT_TRAINING_LR=1e-4`), `--config FILE`, preset, default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

PRESETS = Path(__file__).parent / "presets"
ENVIRONMENT_OPTION = "EDT_OPTIONS_"
TrainOn = Literal["train", "train+valid", "all"]
"""The part of each user's interactions that is learned from."""
KeepSeen = bool | Literal["auto"]
"""Whether what a user has had stays a candidate; `auto`: where repeats are many among the dataset's targets."""
MANY_REPEATS = 0.01
"""More than this share of them."""


OF_LLM_EDT = (
    "model.threads",
    "model.adapter",
    "training.alpha",
    "training.align_temperature",
    "training.calibrate",
    "model.memory",
    "model.memory_window",
    "model.memory_neighbours",
    "model.memory_period",
    "training.finetune",
    "training.finetune_lr",
    "training.finetune_min_steps",
    "training.finetune_validate_steps",
    "training.finetune_epochs",
)
"""Settings that are options of one system now."""
RENAMED = {
    **{name: "options." + name.partition(".")[2] for name in OF_LLM_EDT},
    "training.negatives_of": "training.negative_pool",
    "training.all_domains": "training.cross_domain_negatives",
    "training.final": "training.train_on",
    "training.course": "training.schedules",
    "training.memory_weights": "training.side_weights",
}
"""Settings by the names that they had in run folders and files of before."""


class UserError(Exception):
    """Something that the user can mend; the message says what is wrong and what to do, in one line."""


class UsageError(UserError):
    """Wrong usage of the command line: exit code 2."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


AnySection = TypeVar("AnySection", bound=Section)


class DataSettings(Section):
    """How raw interactions become one chronological sequence a user (`edt data prepare`)."""

    window: tuple[int, int] | None = Field(
        (1514736000, 1577808000), description="keep start < time < end (unix seconds); the released recipe"
    )
    k_core: Literal["paper"] | int | None = Field(
        "paper", description="`paper`: the released passes; a number: a plain k-core over users and items"
    )
    ties: Literal["shuffle", "file"] = Field(
        "shuffle", description="order of one user's interactions with equal times"
    )
    repeats: Literal["drop-duplicates", "keep", "drop"] = Field(
        "drop-duplicates",
        description="a duplicate has the user, item and time of another line, a repeat user and item; "
        "`drop`: both are dropped, `keep`: both stay",
    )
    overlap: float | None = Field(None, ge=0, le=1, description="share of users kept in several domains")
    split: Literal["leave-one-out", "global-time", "given"] = "leave-one-out"
    seed: int = Field(42, description="ties, overlap, candidates")


class EmbeddingSettings(Section):
    """Item and profile text to vectors (eq. 5 and 7)."""

    embedder: str = Field("local", description="`local` (MiniLM and wording), or a litellm name")
    api_base: str | None = Field(None, description="a server of your own for the embedder")


class LLMSettings(Section):
    """Who generates items and writes profiles."""

    provider: str = Field("local", description="`local` (no LLM), deepseek, gpt-3.5, ollama, or a litellm name")
    model: str | None = Field(None, description="the provider's model, where its name does not say it")
    api_base: str | None = Field(None, description="a server of your own for the LLM")
    temperature: float = Field(0.0, ge=0, le=2, description="of the LLM's sampling")
    max_tokens: int = Field(1024, ge=16, description="the longest reply")
    seed: int = Field(42, description="the LLM stages' own: K-means, samples of users, replies")
    concurrency: int = Field(16, ge=1, description="calls at a time")
    limit_users: int | None = Field(None, ge=1, description="a seeded sample of those who would be asked")


class LimitSettings(Section):
    """What the LLM stages may cost and how fast they may ask; none of it changes a result."""

    rpm: float | None = Field(None, gt=0, description="requests a minute that the provider allows")
    tpm: float | None = Field(None, gt=0, description="tokens a minute that the provider allows")
    max_cost: float | None = Field(None, ge=0, description="USD that one command may spend")
    price: str | None = Field(None, description="of the LLM: `free`, or IN,OUT in USD for a million tokens")
    embedder_price: float | None = Field(None, ge=0, description="of the embedder, in USD for a million tokens")
    timeout: float | None = Field(None, gt=0, description="seconds for one answer")
    backoff: float = Field(0.5, gt=0, description="seconds before a failed call is tried again; then twice that")


class AugmentationSettings(Section):
    """The transferable item augmenter, section 3.2."""

    enabled: bool = Field(True, description="off: `w/o Aug.` of table 3")
    clusters: int = Field(10, ge=1, description="K of section 3.2.1")
    representative: Literal["recent", "centroid"] = Field(
        "recent", description="of a cluster of a user's items: the newest, or the one nearest to its centre"
    )
    direction: Literal["minority", "both"] = Field(
        "minority", description="domains that items are asked for: the user's less dominant one, or every one"
    )
    ask: int = Field(5, ge=1, description="items asked for, a user and direction")
    keep: int = Field(3, ge=1, description="k of eq. 6")
    tau: float | str = Field("paper", description="a cosine, a quantile `q0.80`, or `paper` (table 1's rate)")
    ground: Literal["pseudo", "match"] = Field(
        "pseudo", description="a generated item stands as a pseudo-item, or as the nearest real item"
    )
    filter: bool = Field(True, description="off: `w/o Filtering`")
    insertion: Literal["similar", "end", "random"] = Field(
        "similar", description="`end`: `w/o Inserting`; `random`: `Random Inserting`"
    )
    min_r: float = Field(0.0, ge=0, le=1, description="only users with r at least this get items (table 7)")

    @field_validator("tau")
    @classmethod
    def _tau(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            if re.fullmatch(r"-?(\d+\.?\d*|\.\d+)", value):
                value = float(value)
            elif value != "paper" and not re.fullmatch(r"q(0?\.\d+|0|1|1\.0*)", value):
                raise ValueError("tau is a cosine such as 0.9, a quantile such as q0.80, or `paper`")
        if isinstance(value, float) and not -1 <= value <= 1:
            raise ValueError("a cosine lies in [-1, 1]")
        return value


class ProfilingSettings(Section):
    """Domain-aware profiling, section 3.4."""

    enabled: bool = Field(True, description="off: `w/o Profiling`")
    chain: Literal["summarize-reform-analyze", "naive"] = Field(
        "summarize-reform-analyze", description="`naive`: `w/o S-R-A`"
    )
    clusters: int = Field(10, ge=1, description="C of section 3.4.1")


class ModelSettings(Section):
    """The system, its backbone and its sizes."""

    name: str = Field("llm-edt", description="the system; `edt models` lists them")
    backbone: Literal["sasrec", "gru4rec", "bert4rec"] = Field("sasrec", description="what reads a history")
    hidden: int = Field(128, ge=2, description="d")
    blocks: int = Field(2, ge=1, description="layers of the backbone")
    heads: int = Field(2, ge=1, description="of self-attention")
    dropout: float = Field(0.5, ge=0, lt=1, description="the share of values that training drops")
    max_length: int = Field(200, ge=2, description="the newest items of a history that are looked at")
    encoder: Literal["llm", "id", "both"] = Field(
        "llm", description="item vectors from text (eq. 7), of their own, or the sum of both"
    )
    id_shrinkage: float = Field(
        0.0, ge=0, description="`both`: of n interactions in training an id's vector counts n / (n + this)"
    )
    item_std: float = Field(0.02, gt=0, description="of the entries of item vectors at the start")
    text_length: float | None = Field(
        None, gt=0, description="mean length of whitened text vectors; the larger, the more a step moves items"
    )
    text_start: Literal["random", "principal"] = Field(
        "random", description="of eq. 7: `principal` keeps the text's widest directions, and ids beside it are 0"
    )
    zero_start: bool = Field(
        False, description="the sub-layers of sasrec's blocks add nothing at the start: a state is its newest item"
    )
    sequence: Literal["mixed", "single"] = Field(
        "mixed", description="`single`: each domain's own items only, the single-domain systems of table 2"
    )
    mask_share: float = Field(0.2, gt=0, lt=1, description="share of items that BERT4Rec masks in training")
    knn_window: int = Field(
        10,
        ge=1,
        description="item-kNN, LLM-EDT's memory: steps apart that still co-occur; content-kNN: newest items",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backbone != "gru4rec" and self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self


class PhaseSchedule(Section):
    """How a phase of an earlier run went, for one that has nothing held out to go by."""

    epochs: int = Field(ge=0, description="its best")
    planned_epochs: int = Field(ge=0, description="the most that it could have: where a cosine is at zero")
    cuts: tuple[int, ...] = Field((), description="after which a plateau cut its learning rate")


class TrainingSettings(Section):
    """Global pre-training and domain fine-tuning, sections 3.3 and 3.5."""

    seed: int = Field(
        42, ge=0, le=2**32 - 1, description="the run's own: initial weights, batches, dropout, negatives"
    )
    batch: int = Field(512, ge=1, description="users a step")
    epochs: int = Field(200, ge=1, description="at most")
    patience: int = Field(20, ge=1, description="validations without a better NDCG@10 before a phase ends")
    min_steps: int = Field(600, ge=0, description="of pre-training, before patience counts")
    validate_steps: int = Field(
        1, ge=1, description="steps of pre-training between two validations, whole epochs; patience counts these"
    )
    watch: Literal["full", "sampled"] = Field(
        "full", description="the ranking whose NDCG@10 chooses the epoch; `sampled` among 100 negatives"
    )
    lr: float = Field(1e-3, gt=0, description="learning rate of pre-training (AdamW)")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's coefficient")
    decay_epochs: float | None = Field(
        None, gt=0, description="in place of weight_decay: epochs in which what is not learned anew falls to 1 / e"
    )
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant", description="of the learning rate: `cosine` falls to zero at `epochs`, `plateau` is cut"
    )
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    plateau_factor: float = Field(0.3162, gt=0, lt=1, description="`plateau`: what the learning rate is cut to")
    plateau_patience: int = Field(30, ge=1, description="`plateau`: validations without a better one before a cut")
    minutes: float | None = Field(None, gt=0, description="of a phase: it ends with the validation after they pass")
    loss: Literal["bpr", "bce", "ce", "top1", "bpr-max"] = Field(
        "bpr", description="eq. 9 and 12; `ce` is sampled softmax; `top1` and `bpr-max` are GRU4Rec's"
    )
    negatives: int = Field(1, ge=1, description="a position's own, or shared within a domain and batch (ce)")
    negative_pool: int | None = Field(
        None, ge=1, description="`ce`: each position draws `negatives` of its own out of this many shared ones"
    )
    seen_negatives: bool = Field(
        True, description="`ce`: what a user has had may be a negative; where it stays a candidate, always"
    )
    inserted_targets: bool = Field(
        True, description="inserted items are next items to learn, as in eq. 9; off: they only stand before others"
    )
    cross_domain_negatives: bool = Field(
        False, description="`ce`: as many negatives of each other domain beside the target's"
    )
    loss_temperature: float = Field(1.0, gt=0, description="divides the scores in `ce`")
    side_weights: tuple[tuple[float, ...], ...] | None = Field(
        None,
        description="of a side score, as an earlier run's validation set has them; --refit and --final set it",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of products in training; a CPU without bfloat16 trains in float32"
    )
    schedules: dict[str, PhaseSchedule] = Field(
        default_factory=dict, description="of each phase, as an earlier run went; --refit and --final set them"
    )
    train_on: TrainOn = Field(
        "train", description="what is learned from: `train+valid` holds out the test items alone, `all` nothing"
    )


class EvaluationSettings(Section):
    """How held-out items are ranked (section 4.1.4)."""

    protocol: Literal["full", "sampled"] = Field(
        "full", description="a target is ranked among its domain's items, or among `negatives` of them"
    )
    negatives: int = Field(100, ge=1, description="of the sampled protocol")
    keep_seen: KeepSeen = Field(
        "auto",
        description="items that the user has had stay candidates; `auto`: where over 1% of targets are repeats",
    )


class Settings(Section):
    embedding: EmbeddingSettings = EmbeddingSettings()
    llm: LLMSettings = LLMSettings()
    limits: LimitSettings = LimitSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    profiling: ProfilingSettings = ProfilingSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    options: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, description="what only this system has; `edt models NAME` lists it"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        shared = self.training.negative_pool
        if shared is not None and (self.training.loss != "ce" or shared < self.training.negatives):
            raise ValueError("training.negative_pool needs training.loss = ce, and at least training.negatives")
        if self.training.cross_domain_negatives and self.training.loss != "ce":
            raise ValueError("training.cross_domain_negatives needs training.loss = ce")
        if not self.training.inserted_targets and self.model.sequence == "single":
            raise ValueError("training.inserted_targets = false needs model.sequence = mixed")
        return self

    def flat(self) -> dict[str, Any]:
        """By dotted name: {"training.lr": 0.001, ...}."""
        sections = self.model_dump()
        return {
            f"{section}.{name}": value for section, fields in sections.items() for name, value in fields.items()
        }

    def document(self) -> dict[str, Any]:
        """As JSON values, to be kept: an address without a name, a password or a query, where keys are."""
        found = self.model_dump(mode="json")
        for section in ("llm", "embedding"):
            if address := found[section]["api_base"]:
                parts = urlsplit(address)
                found[section]["api_base"] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        return found

    def changed(self, **sections: Mapping[str, Any]) -> Settings:
        """A copy with some fields of some sections replaced. Errors: UsageError for what is not valid."""
        return validated(Settings, _merged(self.model_dump(), sections))


def load_settings(
    preset: str | Path,
    *,
    config: Path | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    over: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Settings by precedence. `preset`: a name, or the file of a system that is not built in. `flags` is
    {section: {field: value}}; None values count as not given. `over`: what the preset is taken to say instead.

    Errors: UserError for an unknown preset, an unreadable file, an unknown field or a value out of range.
    """
    values = _merged(read_toml(preset if isinstance(preset, Path) else preset_path(preset)), over or {})
    if config is not None:
        values = _merged(values, read_toml(config))
    values = _merged(values, _from_environment(os.environ if environment is None else environment))
    values = _merged(values, flags or {})
    return validated(Settings, values)


def preset_name(preset: str | Path) -> str:
    """Of a system that is not built in, its file's."""
    return preset if isinstance(preset, str) else preset.stem


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset_path(name: str) -> Path:
    if name not in preset_names():
        raise UsageError(f"unknown preset {name!r}; there are: {', '.join(preset_names())}")
    return PRESETS / f"{name}.toml"


def parse_assignments(assignments: list[str]) -> dict[str, dict[str, Any]]:
    """`["training.lr=1e-4"]` (the CLI's `--set`) to {section: {field: text}}; pydantic turns text to type."""
    values: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        match = re.fullmatch(r"([a-z_]+)\.([a-z_][a-z0-9_]*)=(.*)", assignment)
        if not match:
            raise UsageError(f"--set takes section.field=value, such as training.lr=1e-4; got {assignment!r}")
        section, field, value = match.groups()
        values.setdefault(section, {})[field] = None if value == "none" else value
    return values


def model_named(config: Path | None, assignments: list[str]) -> str | None:
    """`model.name` where --set, the environment or --config say it, the first of these that does."""
    values = _merged(read_toml(config) if config else {}, _from_environment(os.environ))
    model = _merged(values, parse_assignments(assignments)).get("model")
    return model.get("name") if isinstance(model, dict) else None


def validated(kind: type[AnySection], values: Mapping[str, Any]) -> AnySection:
    """One section from untrusted values. Errors: UsageError with the first problem."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(_first_problem(error)) from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        for name in kind.model_fields if isinstance(kind, type) and issubclass(kind, Section) else ():
            value = environment.get(f"EDT_{section}_{name}".upper())
            if value is not None:
                values.setdefault(section, {})[name] = None if value == "none" else value
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_OPTION):
            option = name.removeprefix(ENVIRONMENT_OPTION).lower()
            values.setdefault("options", {})[option] = None if value == "none" else value
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Errors: UserError for a file that cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid TOML: {error}") from None


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for section, fields in over.items():
        if isinstance(fields, Mapping) and isinstance(out.get(section, {}), Mapping):
            out[section] = {**out.get(section, {}), **fields}
        else:
            out[section] = fields
    return out


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        now = f"; it is {RENAMED[where]} now" if where in RENAMED else ""
        return f"there is no setting {where}{now}{more}"
    said = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]
    # What several settings together do not allow: its input is a whole section, in which addresses may hold keys.
    if isinstance(problem["input"], dict) and problem["type"] == "value_error":
        return f"{said}{more}"
    got = "" if problem["type"] == "missing" else f", got {problem['input']!r}"
    return f"setting {where}: {said}{got}{more}"
