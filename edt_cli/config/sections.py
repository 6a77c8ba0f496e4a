"""Every setting, typed and validated, by section."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from edt_cli.config.validation import Section, merged, validated

Ties = Literal["shuffle", "file"]
Repeats = Literal["drop-duplicates", "keep", "drop"]
SplitRule = Literal["leave-one-out", "global-time", "given"]
Direction = Literal["minority", "both"]
Ground = Literal["pseudo", "match"]
Backbone = Literal["sasrec", "gru4rec", "bert4rec"]
Encoder = Literal["llm", "id", "both"]
SequenceKind = Literal["mixed", "single"]
Loss = Literal["bpr", "bce", "ce", "top1", "bpr-max"]
IndexKind = Literal["faiss", "hnswlib", "qdrant", "lancedb", "parquet"]
Protocol = Literal["full", "sampled", "popular"]
Split = Literal["valid", "test"]
GroupKind = Literal["length", "total", "r", "text", "training"]
"""Properties by which users are grouped in results."""
Tracker = Literal["mlflow", "tensorboard", "wandb"]
CUTOFFS = (5, 10, 20)
"""Cutoffs k of the metrics that every result has."""
TrainOn = Literal["train", "train+valid", "all"]
"""Part of each user's interactions that a model is trained on."""
KeepSeen = bool | Literal["auto"]
"""Whether items that a user has already seen stay candidates.

`auto` keeps them where more than `MANY_REPEATS` of the dataset's targets are repeats.
"""
MANY_REPEATS = 0.01
"""Share of repeats among the targets above which `keep_seen = "auto"` keeps seen items."""
OF_EVERY_CALL = frozenset(
    {"model", "messages", "api_base", "base_url", "temperature", "max_tokens", "seed", "response_format", "stream"}
    | {"stream_options", "timeout", "max_retries", "drop_params", "n", "tools", "mock_response"}
)
"""Parameters of a call that have settings of their own, or that edt relies on."""


class DataSettings(Section):
    """How raw interactions become one chronological sequence per user (`edt data prepare`)."""

    window: tuple[int, int] | None = Field(
        (1514736000, 1577808000),
        description="keep interactions with start < time < end (unix seconds); the default is the released recipe",
    )
    k_core: Literal["paper"] | int | None = Field(
        "paper",
        description="`paper` for the passes of the released code, or a number for a plain k-core over users and "
        "items",
    )
    ties: Ties = Field(
        "shuffle", description="order of a user's interactions that have the same time: shuffled, or as in the file"
    )
    repeats: Repeats = Field(
        "drop-duplicates",
        description="a duplicate has the same user, item and time as another line, a repeat the same user and "
        "item; `drop` removes both, `keep` keeps both",
    )
    overlap: float | None = Field(
        None, ge=0, le=1, description="share of users who stay in several domains; the others keep one domain"
    )
    split: SplitRule = "leave-one-out"
    seed: int = Field(42, description="random seed for ties, overlap and candidates")
    min_rating: float | None = Field(
        None, allow_inf_nan=False, description="lowest rating of an interaction that is kept"
    )
    descriptions: dict[str, str] = Field(default_factory=dict, description="what a domain sells, for prompts")

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer settings that are not used, so that the keys of older datasets stay."""
        unused: dict[str, Any] = {"min_rating": None, "descriptions": {}}
        return {name: value for name, value in serialize(self).items() if unused.get(name, ...) != value}


class EmbeddingSettings(Section):
    """The embedder of item and profile text (eq. 5 and 7)."""

    embedder: str = Field(
        "local", description="`local` (MiniLM and lexical features), or the name of a litellm model"
    )
    api_base: str | None = Field(
        None, description="base URL of the embedder's server, if it is not the provider's default"
    )
    batch_size: int | None = Field(
        None, ge=1, description="texts in one call to the embedder: as many as it takes by default"
    )


class LLMSettings(Section):
    """The LLM that generates items and writes profiles."""

    provider: str = Field(
        "local", description="`local` (no LLM), deepseek, gpt-3.5, ollama, or the name of a litellm model"
    )
    model: str | None = Field(None, description="the model to use, if the provider's name does not determine it")
    api_base: str | None = Field(
        None, description="base URL of the LLM's server, if it is not the provider's default"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="sampling temperature of the LLM")
    max_tokens: int = Field(
        1024, ge=16, description="maximum length of a reply in tokens, without a model's thoughts"
    )
    seed: int = Field(42, description="random seed of the LLM stages: K-means, samples of users, replies")
    concurrency: int = Field(16, ge=1, description="maximum number of concurrent calls")
    limit_users: int | None = Field(
        None, ge=1, description="ask the LLM about a random sample of this many users only"
    )
    structured: Literal["auto", "off"] = Field(
        "auto",
        description="whether to ask for structured output, in the strongest form that the server knows; `off`: the "
        "prompt alone says the form",
    )
    extra: dict[str, bool | int | float | str] = Field(
        default_factory=dict,
        description="further parameters of each call, by the provider's names: a table [llm.extra], or "
        "`reasoning_effort=low,num_ctx=8192`",
    )
    fallback: str | None = Field(
        None, description="PROVIDER/MODEL that is asked where the LLM has no answer, or has no credit left"
    )
    prompts: str | None = Field(
        None, description="folder of your own prompts, in place of built-in ones; `edt prompts export` makes one"
    )

    @field_validator("extra", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        """Read `name=value,...`; a value is JSON, or else a text."""
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(name.strip() and equals for name, equals, _ in pairs):
            raise ValueError("llm.extra is a table, or name=value,... such as reasoning_effort=low,num_ctx=8192")
        return {name.strip(): _json_or_text(text.strip()) for name, _, text in pairs}

    @field_validator("extra")
    @classmethod
    def no_own(cls, value: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        """Check that no parameter is one that edt sets, or a secret, which settings would be stored with."""
        for name in value:
            if name in OF_EVERY_CALL or re.search(r"key|token$|secret|password", name, re.IGNORECASE):
                raise ValueError(f"llm.extra cannot set {name}: edt sets it itself, or it is a secret")
        return value


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class LimitSettings(Section):
    """Limits on the cost and the rate of LLM calls; none of them changes a result."""

    rpm: float | None = Field(None, gt=0, description="requests per minute that the provider allows")
    tpm: float | None = Field(None, gt=0, description="tokens per minute that the provider allows")
    max_cost: float | None = Field(None, ge=0, description="maximum cost of one command in USD")
    budget: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="name of a budget: `max_cost` then is of all commands with it",
    )
    max_failed: float = Field(
        0.5, ge=0, le=1, description="share of a stage's questions that may fail; the stage is not made with more"
    )
    batch_api: bool = Field(
        False, description="send questions as batch jobs of at most `llm.concurrency` questions, answered in a day"
    )
    price: str | None = Field(None, description="price of the LLM: `free`, or IN,OUT in USD per million tokens")
    embedder_price: float | None = Field(None, ge=0, description="price of the embedder in USD per million tokens")
    timeout: float | None = Field(None, gt=0, description="seconds to wait for a reply")
    backoff: float = Field(
        0.5, gt=0, description="seconds before a failed call is repeated; doubled after each further failure"
    )


class AugmentationSettings(Section):
    """The transferable item augmenter (section 3.2)."""

    enabled: bool = Field(True, description="whether to augment; off: `w/o Aug.` of table 3")
    clusters: int = Field(10, ge=1, description="number of clusters of items (K of section 3.2.1)")
    representative: Literal["recent", "centroid"] = Field(
        "recent",
        description="item that represents a cluster of a user's items: the newest, or the nearest to its centre",
    )
    direction: Direction = Field(
        "minority", description="domains to generate items of: each user's less dominant one, or all"
    )
    ask: int = Field(5, ge=1, description="items that the LLM is asked for, per user and direction")
    keep: int = Field(3, ge=1, description="generated items to keep (k of eq. 6)")
    tau: float | str = Field(
        "paper",
        description="threshold of the filter: a cosine, a quantile such as `q0.80`, `paper` (the rate of table 1), "
        "or `paper+0.05` and `paper-0.05` (that threshold, raised or lowered; table 4)",
    )
    ground: Ground = Field(
        "pseudo", description="insert a generated item as a pseudo-item, or as the nearest real item"
    )
    filter: bool = Field(True, description="whether to filter the generated items; off: `w/o Filtering`")
    insertion: Literal["similar", "end", "random"] = Field(
        "similar",
        description="position of an insertion: beside the most similar item, `end` (`w/o Inserting`), or "
        "`random` (`Random Inserting`)",
    )
    min_r: float = Field(0.0, ge=0, le=1, description="smallest r of a user who gets items (table 7)")
    injected: float = Field(
        1.0, ge=0, le=1, description="share of the kept items that are inserted, chosen at random (table 6)"
    )

    @field_validator("tau")
    @classmethod
    def _tau(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            if re.fullmatch(r"-?(\d+\.?\d*|\.\d+)", value):
                value = float(value)
            elif not re.fullmatch(r"paper([+-]0?\.\d+)?|q(0?\.\d+|0|1|1\.0*)", value):
                raise ValueError("tau is a cosine such as 0.9, a quantile such as q0.80, `paper` or `paper+0.05`")
        if isinstance(value, float) and not -1 <= value <= 1:
            raise ValueError("a cosine lies in [-1, 1]")
        return value


class ProfilingSettings(Section):
    """Domain-aware profiling (section 3.4)."""

    enabled: bool = Field(True, description="whether to write profiles; off: `w/o Profiling`")
    chain: Literal["summarize-reform-analyze", "naive"] = Field(
        "summarize-reform-analyze",
        description="how a profile is written: in three steps, or in one (`naive`: `w/o S-R-A`)",
    )
    clusters: int = Field(10, ge=1, description="number of clusters of items (C of section 3.4.1)")
    source: Literal["augmented", "raw"] = Field(
        "augmented",
        description="sequences that profiles are written from: the augmented ones, or the purchases alone (`raw`), "
        "whose profiles all augmentations share",
    )


class ModelSettings(Section):
    """The system, its backbone and their sizes."""

    name: str = Field("llm-edt", description="the system; `edt models` lists them")
    backbone: Backbone = Field("sasrec", description="model that encodes a history")
    hidden: int = Field(128, ge=2, description="dimension of hidden states and item vectors (d)")
    blocks: int = Field(2, ge=1, description="number of layers of the backbone")
    heads: int = Field(2, ge=1, description="number of self-attention heads")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout rate in training")
    max_length: int = Field(200, ge=2, description="maximum length of a history; older items are cut off")
    encoder: Encoder = Field(
        "llm", description="item vectors: from text (eq. 7), learned per id, or the sum of both"
    )
    id_shrinkage: float = Field(
        0.0,
        ge=0,
        description="`both`: an id's vector is weighted by n / (n + this), for n interactions in training",
    )
    item_std: float = Field(0.02, gt=0, description="standard deviation of initial item vectors")
    text_length: float | None = Field(
        None,
        gt=0,
        description="mean length of whitened text vectors; the larger, the more a training step moves items",
    )
    text_start: Literal["random", "principal"] = Field(
        "random",
        description="initialisation of eq. 7; `principal`: the principal components of the text, with id vectors "
        "at 0",
    )
    zero_start: bool = Field(
        False,
        description="sasrec: initialise the blocks to add nothing, so that a state is the vector of its newest "
        "item",
    )
    sequence: SequenceKind = Field(
        "mixed",
        description="`mixed` over all domains, or `single`: one sequence per domain, as the single-domain "
        "systems of table 2",
    )
    mask_share: float = Field(0.2, gt=0, lt=1, description="share of items that BERT4Rec masks in training")
    knn_window: int = Field(
        10,
        ge=1,
        description="item-kNN and LLM-EDT's memory: maximum distance of co-occurring items in a history; "
        "content-kNN: number of newest items to compare with",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backbone != "gru4rec" and self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self


class PhaseSchedule(Section):
    """Course of a phase in an earlier run, to be repeated where no validation set is left."""

    epochs: int = Field(ge=0, description="epoch with the best validation result")
    planned_epochs: int = Field(
        ge=0, description="maximum number of epochs, after which a cosine schedule is at zero"
    )
    cuts: tuple[int, ...] = Field(
        (), description="epochs after which the plateau schedule reduced the learning rate"
    )


class TrainingSettings(Section):
    """Global pre-training and domain fine-tuning (sections 3.3 and 3.5)."""

    seed: int = Field(
        42, ge=0, le=2**32 - 1, description="random seed for initial weights, batches, dropout and negatives"
    )
    batch: int = Field(512, ge=1, description="users per step")
    epochs: int = Field(200, ge=1, description="maximum number of epochs")
    patience: int = Field(20, ge=1, description="validations without a better NDCG@10 after which a phase ends")
    min_steps: int = Field(600, ge=0, description="steps of a phase before patience counts")
    validate_steps: int = Field(
        1, ge=1, description="steps of pre-training between validations, rounded to whole epochs"
    )
    watch: Literal["full", "sampled"] = Field(
        "full", description="validation protocol whose NDCG@10 selects the epoch; `sampled`: among 100 negatives"
    )
    lr: float = Field(1e-3, gt=0, description="learning rate of AdamW, in each phase without its own")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    decay_epochs: float | None = Field(
        None,
        gt=0,
        description="weight decay as a time, in place of weight_decay: epochs in which a weight without gradient "
        "falls to 1 / e",
    )
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant",
        description="schedule of the learning rate; `cosine` reaches zero at `epochs`, `plateau` reduces it when "
        "NDCG@10 stalls",
    )
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="largest norm of a gradient, over all weights of an optimiser; a larger one is scaled",
    )
    warmup: int = Field(0, ge=0, description="steps of linear warm-up of the learning rate")
    plateau_factor: float = Field(
        0.3162, gt=0, lt=1, description="`plateau`: factor by which the learning rate is multiplied"
    )
    plateau_patience: int = Field(
        30, ge=1, description="`plateau`: validations without a better NDCG@10 before the learning rate is reduced"
    )
    minutes: float | None = Field(
        None, gt=0, description="maximum minutes of a phase; it ends with the first validation after that"
    )
    loss: Loss = Field(
        "bpr",
        description="loss of eq. 9 and 12; `ce` is sampled softmax, `top1` and `bpr-max` are the losses of GRU4Rec",
    )
    negatives: int = Field(
        1, ge=1, description="number of negatives: per position, or shared within a domain and batch (`ce`)"
    )
    negative_pool: int | None = Field(
        None, ge=1, description="`ce`: size of a shared pool, out of which each position draws its `negatives`"
    )
    seen_negatives: bool = Field(
        True,
        description="`ce`: items that the user has seen may be negatives; always on where seen items stay "
        "candidates",
    )
    inserted_targets: bool = Field(
        True, description="predict inserted items, too, as in eq. 9; off: they are input only"
    )
    cross_domain_negatives: bool = Field(
        False, description="`ce`: draw as many negatives from each other domain as from the target's"
    )
    loss_temperature: float = Field(1.0, gt=0, description="`ce`: temperature by which scores are divided")
    side_weights: tuple[tuple[float, ...], ...] | None = Field(
        None,
        description="weights of the side score, fitted on an earlier run's validation set; set by --refit and "
        "--final",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="data type of matrix products in training; a CPU without bfloat16 trains in float32"
    )
    schedules: dict[str, PhaseSchedule] = Field(
        default_factory=dict,
        description="course of each phase, taken from an earlier run; set by --refit and --final",
    )
    train_on: TrainOn = Field(
        "train", description="training data; `train+valid` holds out the test items only, `all` nothing"
    )


class EvaluationSettings(Section):
    """How held-out items are ranked (section 4.1.4)."""

    protocol: Protocol = Field(
        "full",
        description="rank a target among all items of its domain, or among `negatives` of them: drawn uniformly "
        "(`sampled`), or by their number of interactions in training (`popular`)",
    )
    negatives: int = Field(100, ge=1, description="number of negatives of the protocols that sample")
    cutoffs: tuple[int, ...] = Field(
        CUTOFFS,
        min_length=1,
        description="k of HR@k and NDCG@k, such as 1,5,50; those at 5, 10 and 20 are always there",
    )
    keep_seen: KeepSeen = Field(
        "auto",
        description="keep items that the user has seen as candidates; `auto`: if more than 1% of the targets are "
        "repeats",
    )

    @field_validator("cutoffs", mode="before")
    @classmethod
    def _cutoffs(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("cutoffs")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError("a cutoff is a whole number from 1 on")
        return tuple(sorted(set(value)))


class Settings(Section):
    """All settings of a run, by section."""

    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    llm: LLMSettings = Field(default_factory=LLMSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    profiling: ProfilingSettings = Field(default_factory=ProfilingSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    options: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, description="options of the chosen system; `edt models NAME` lists them"
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
        """Return the settings by dotted name: {"training.lr": 0.001, ...}."""
        sections = self.model_dump()
        return {
            f"{section}.{name}": value for section, fields in sections.items() for name, value in fields.items()
        }

    def document(self) -> dict[str, Any]:
        """Return the settings as JSON values that are safe to store.

        Addresses lose user names, passwords and queries, which may hold keys.
        """
        document = self.model_dump(mode="json")
        for section in ("llm", "embedding"):
            if address := document[section]["api_base"]:
                parts = urlsplit(address)
                document[section]["api_base"] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        return document

    def changed(self, **sections: Mapping[str, Any]) -> Settings:
        """Return a copy with the given fields of the given sections replaced.

        Raises:
            UsageError: If the result is not valid.
        """
        return validated(Settings, merged(self.model_dump(), sections))
