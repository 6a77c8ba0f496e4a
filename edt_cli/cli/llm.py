"""Options of the commands that may ask an LLM, the estimate, and the question before money is spent."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import (
    BUDGET,
    LLM,
    ApiBaseOption,
    EmbedderOption,
    LimitUsersOption,
    LlmModelOption,
    PromptsOption,
    ProviderOption,
    YesOption,
    show,
)

if TYPE_CHECKING:
    from edt_cli.llm.shards import Shard
    from edt_cli.pipeline import Pipeline
    from edt_cli.pipeline.estimate import Estimate, Span


JOB = 50_000
"""Questions of a batch job without --concurrency."""


MaxFailedOption = Annotated[
    float | None,
    typer.Option(
        "--max-failed",
        min=0,
        max=1,
        help="Share of a stage's questions that may fail; 0.5 without it.",
        rich_help_panel=BUDGET,
    ),
]
RetryFailedOption = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="Ask again what got no usable reply; it is paid again.", rich_help_panel=BUDGET
    ),
]


@dataclass(frozen=True)
class LLMOptions:
    """The flags; those that were not given are None."""

    provider: ProviderOption = None
    llm_model: LlmModelOption = None
    api_base: ApiBaseOption = None
    fallback: Annotated[
        str | None,
        typer.Option(
            "--fallback",
            metavar="PROVIDER/MODEL",
            help="Asked where the first has no answer, or no credit left.",
            rich_help_panel=LLM,
            autocompletion=complete.providers,
        ),
    ] = None
    embedder: EmbedderOption = None
    embedder_api_base: Annotated[
        str | None,
        typer.Option(
            "--embedder-api-base",
            help="The embedder's server. Default: --api-base, for the same provider.",
            rich_help_panel=LLM,
        ),
    ] = None
    limit_users: LimitUsersOption = None
    prompts: PromptsOption = None
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Calls at a time; 16 without it.", rich_help_panel=LLM),
    ] = None
    rpm: Annotated[
        float | None, typer.Option("--rpm", help="Requests a minute that the provider allows.", rich_help_panel=LLM)
    ] = None
    tpm: Annotated[
        float | None, typer.Option("--tpm", help="Tokens a minute that the provider allows.", rich_help_panel=LLM)
    ] = None
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost", help="USD that this command may spend; it stops before more.", rich_help_panel=BUDGET
        ),
    ] = None
    price: Annotated[
        str | None,
        typer.Option(
            "--price", metavar="IN,OUT|free", help="The LLM's, in USD for a million tokens.", rich_help_panel=BUDGET
        ),
    ] = None
    max_failed: MaxFailedOption = None
    retry_failed: RetryFailedOption = False
    batch_api: Annotated[
        bool,
        typer.Option(
            "--batch-api",
            help="Ask in batch jobs: answered within a day, at half the price.",
            rich_help_panel=BUDGET,
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would ask and cost; call nobody.", rich_help_panel=BUDGET)
    ] = False
    yes: YesOption = False

    def settings(self) -> dict[str, dict[str, Any]]:
        return {
            "llm": {
                "provider": self.provider,
                "model": self.llm_model,
                "api_base": self.api_base,
                "limit_users": self.limit_users,
                "concurrency": self.concurrency or (JOB if self.batch_api else None),
                "fallback": self.fallback,
                "prompts": None if self.prompts is None else str(self.prompts),
            },
            "embedding": {"embedder": self.embedder, "api_base": self.embedder_api_base},
            "limits": {"rpm": self.rpm, "tpm": self.tpm, "max_cost": self.max_cost, "price": self.price}
            | {"max_failed": self.max_failed, "batch_api": self.batch_api or None},
        }


NOT_GIVEN = LLMOptions()


def takes_llm_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: its parameter `llm` becomes one option for each field of LLMOptions.

    A field with the name of a parameter of the command's own is left out.
    """
    signature = inspect.signature(command, eval_str=True)
    hints = get_type_hints(LLMOptions, include_extras=True)
    taken = [option for option in fields(LLMOptions) if option.name not in signature.parameters]
    names = [option.name for option in taken]
    options = [
        inspect.Parameter(
            option.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=option.default,
            annotation=hints[option.name],
        )
        for option in taken
    ]
    parameters = [
        part
        for parameter in signature.parameters.values()
        for part in (options if parameter.name == "llm" else [parameter])
    ]

    @wraps(command)
    def expanded(**given: Any) -> None:
        llm = LLMOptions(**{name: given.pop(name) for name in names})
        command(llm=llm, **given)

    expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {part.name: part.annotation for part in parameters}
    return expanded


def ask_before_spending(
    pipeline: Pipeline, llm: LLMOptions, *, as_json: bool = False, shard: Shard | None = None
) -> None:
    """Show what providers would be asked and what that may cost, and ask whether to go on if it costs anything.

    With --dry-run the command ends here. Of a shard, only the questions about its users count.

    Raises:
        UsageError: If there is no terminal to ask on, and no --yes.
        typer.Abort: If the answer is no.
    """
    from edt_cli.pipeline.estimate import estimates

    if not llm.dry_run and not pipeline.providers.paid:
        return
    stages = estimates(pipeline, shard=shard)
    if llm.dry_run:
        show(_document(pipeline, stages), [_report(pipeline, stages)], as_json=as_json)
        raise typer.Exit
    if not any(stage.calls.high for stage in stages):
        return
    if not as_json:
        from edt_cli.cli.common import stderr

        stderr().print(_report(pipeline, stages))
    confirm_spending(yes=llm.yes)


def confirm_spending(*, yes: bool) -> None:
    """Ask whether to go on, unless `yes` says so already.

    Raises:
        UsageError: If there is no terminal to ask on, and no --yes.
        typer.Abort: If the answer is no.
    """
    from edt_cli.config import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this asks a paid provider: say --yes to go on without a question")
    typer.confirm("Go on?", abort=True, err=True)


def _document(pipeline: Pipeline, stages: list[Estimate]) -> dict[str, Any]:
    price = pipeline.providers.price
    total = _total(stages)
    return {
        "data": pipeline.dataset.name,
        "llm": pipeline.chat_identity["name"],
        "embedder": pipeline.embedder.name,
        "price_per_million": None if price is None else [part * 1e6 for part in price],
        **_further(pipeline),
        "concurrency": pipeline.settings.llm.concurrency,
        "stages": [stage.document() for stage in stages],
        "cost_usd": None if total is None else list(total),
        "seconds": [sum(stage.seconds[end] for stage in stages) for end in (0, 1)],
    }


def _further(pipeline: Pipeline) -> dict[str, Any]:
    """Return the model's prices of cached prompts and of batches for a million tokens, where they are known."""
    prices = pipeline.providers.backend.further_prices()
    cached = {} if prices.cached is None else {"cached_price_per_million": prices.cached * 1e6}
    return cached | ({} if prices.batch is None else {"batch_price_per_million": [p * 1e6 for p in prices.batch]})


def _total(stages: list[Estimate]) -> Span | None:
    from edt_cli.pipeline.estimate import NOTHING

    total = NOTHING
    for stage in stages:
        if stage.cost_usd is None:
            return None
        total += stage.cost_usd
    return total


def _report(pipeline: Pipeline, stages: list[Estimate]) -> Any:
    """Return the estimate as lines, which fit any terminal; a table with ranges in it would need 120 columns."""
    from rich.text import Text

    from edt_cli.reporting.text import plain

    name, data = plain(pipeline.chat_identity["name"]), plain(pipeline.dataset.name)
    if not any(stage.calls.high for stage in stages):
        return Text(f"{data}, by {name}: no call is left.")
    lines, s = [f"{data}, by {name}, calls still to make:"], pipeline.settings
    for stage in stages:
        users = max(1, stage.users)
        calls = f"{span(stage.calls, '{:,.0f}')} calls for {stage.users:,} users, {stage.cached:,} in the cache"
        tokens_in, tokens_out = span(stage.prompt_tokens, "{:,.0f}"), span(stage.completion_tokens, "{:,.0f}")
        # A batch job takes as long as the provider likes, up to a day.
        how_long = "" if s.limits.batch_api else f"; {_duration(stage.seconds)}"
        lines.append(f"  {stage.stage}: {calls}; {tokens_in} tokens in, {tokens_out} out{how_long}")
        if stage.cost_usd is not None:
            each = span(stage.cost_usd.times(type(stage.cost_usd)(1 / users, 1 / users)), "{:.6f}")
            paper = f"the paper's: {stage.paper_usd:.6f}"
            lines.append(f"    {span(stage.cost_usd, '{:,.4f}')} USD, {each} a user ({paper})")
        lines.append(f"    from {stage.basis}")
    total = _total(stages)
    cost = "at a price that is not known" if total is None else f"{span(total, '{:,.4f}')} USD"
    how = "in batch jobs, within a day each" if s.limits.batch_api else f"at {s.llm.concurrency} calls at a time"
    lines.append(f"In all {cost}, {how}.")
    further = _further(pipeline)
    if cached := further.get("cached_price_per_million"):
        lines.append(f"A million prompt tokens that the provider knows from before cost {cached:g} USD.")
    if (batch := further.get("batch_price_per_million")) and not s.limits.batch_api:
        lines.append(f"In batch jobs (--batch-api) a million tokens cost {batch[0]:g} USD in and {batch[1]:g} out.")
    return Text("\n".join(lines))


def span(span: Span, form: str) -> str:
    """Format a range as one number if its ends look alike."""
    low, high = form.format(span.low), form.format(span.high)
    return low if low == high else f"{low} - {high}"


def _duration(seconds: Span) -> str:
    def of(value: float) -> str:
        minutes, rest = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

    low, high = of(seconds.low), of(seconds.high)
    return low if low == high else f"{low} - {high}"
