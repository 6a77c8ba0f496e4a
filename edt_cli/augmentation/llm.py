"""What both LLM stages share: prompts as files, many questions at once, replies that are checked."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edt_backends.base import BackendError, ChatBackend, ChatReply, ChatRequest, Message
from edt_cli.config import LLMSettings
from edt_cli.data.clean import clean_text
from edt_cli.events import Events

T = TypeVar("T")
Shape = TypeVar("Shape", bound=BaseModel)

TITLE_CHARACTERS = 200

_ESCAPE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b.")


@dataclass(frozen=True)
class Prompt:
    """A prompt file: a version, a system text and a user text with `$fields`."""

    name: str
    system: Template
    user: Template

    def messages(self, **fields: Any) -> tuple[Message, Message]:
        """Every field is rendered as JSON, so that what a catalogue says stays a quoted value."""
        quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in fields.items()}
        return (
            Message("system", self.system.substitute(quoted)),
            Message("user", self.user.substitute(quoted)),
        )


@cache
def load_prompt(path: Path) -> Prompt:
    """`generate.md` whose first line says `version: 1` becomes the prompt `generate@1`."""
    text = path.read_text("utf-8")
    match = re.fullmatch(r"version: (\d+)\n+# System\n+(.*?)\n+# User\n+(.*?)\n*", text, re.DOTALL)
    if match is None:
        raise ValueError(f"{path} is no prompt: it needs `version: N`, `# System` and `# User`")
    version, system, user = match.groups()
    return Prompt(f"{path.stem}@{version}", Template(system), Template(user))


@cache
def schema(shape: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema that a reply of this shape holds to."""
    return shape.model_json_schema()


def request(
    prompt: Prompt,
    settings: LLMSettings,
    shape: type[BaseModel],
    fields: Mapping[str, Any],
    inputs: Mapping[str, Any],
    user: str | None = None,
) -> ChatRequest:
    """One question; `inputs` are the facts for a backend that is no LLM, `task` among them."""
    return ChatRequest(
        prompt=prompt.name,
        messages=prompt.messages(**fields),
        schema=schema(shape),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
        inputs=inputs,
        user=user,
    )


@dataclass(frozen=True)
class Failed:
    """A question without a usable answer: `reason` is one of a few, `detail` what was said."""

    reason: str
    detail: str = ""


@dataclass
class Bill:
    """What the replies of a stage cost when they were made, and what was spent on them now."""

    replies: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    spent_usd: float = 0.0
    unpriced: int = 0
    models: dict[str, int] = field(default_factory=dict)

    def add(self, reply: ChatReply) -> None:
        cost = reply.usage.cost_usd
        self.replies += 1
        self.cached += reply.cached
        self.prompt_tokens += reply.usage.prompt_tokens
        self.completion_tokens += reply.usage.completion_tokens
        self.cost_usd += cost or 0.0
        self.spent_usd += 0.0 if reply.cached else cost or 0.0
        self.unpriced += cost is None
        self.models[reply.model] = self.models.get(reply.model, 0) + 1


async def ask(chat: ChatBackend, question: ChatRequest, shape: type[Shape], bill: Bill) -> Shape | Failed:
    """The validated reply, or why there is none.

    An unusable reply is rejected, so that a later run asks again instead of remembering it. Errors: BackendError
    where asking on is pointless (a wrong key, money spent); a lost call is a `Failed`.
    """
    try:
        reply = await chat.complete(question)
    except BackendError as error:
        if not error.retryable:
            raise
        return Failed("no reply", clean(str(error), 300))
    bill.add(reply)
    found = Failed("refused") if reply.finish_reason == "content_filter" else parse(reply.text, shape)
    if isinstance(found, Failed):
        chat.reject(question)
        if reply.finish_reason == "length":
            return Failed("cut off", "raise --set llm.max_tokens")
    return found


def parse(text: str, shape: type[Shape]) -> Shape | Failed:
    """A reply is one JSON document of the given shape, bare or in one code fence; nothing else is taken."""
    body = text.strip()
    if body.startswith("```") and body.endswith("```"):
        body = body[3:-3].removeprefix("json")
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        reason = "no JSON" if problem["type"] == "json_invalid" else "wrong shape"
        return Failed(reason, clean(f"{where}: {problem['msg']}" if where else problem["msg"], 300))


async def work(
    jobs: Iterable[Callable[[], Awaitable[T]]], total: int, concurrency: int, events: Events, stage: str
) -> list[T]:
    """Results of `total` jobs in their order, `concurrency` at a time; obeys pause and stop between jobs.

    At the first error no new job is begun, those under way (paid for, maybe) come to their end, then it is
    raised.
    """
    results: dict[int, T] = {}
    queue = enumerate(jobs)
    gate = asyncio.Lock()
    halted = False

    async def worker() -> None:
        nonlocal halted
        try:
            while True:
                async with gate:
                    if not halted and events.requested() != "run":
                        await asyncio.to_thread(events.obey)  # waits while paused; calls under way go on
                    following = None if halted else next(queue, None)
                if following is None:
                    return
                number, job = following
                results[number] = await job()
                events.progress(stage, len(results), total)
        except BaseException:
            halted = True
            raise

    outcomes = await asyncio.gather(*(worker() for _ in range(min(concurrency, total))), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [results[number] for number in range(total)]


def clean(text: str | None, limit: int) -> str:
    """Text of an LLM as data: cleaned like the catalogue's, without escape sequences, at most `limit` long."""
    plain = clean_text(_ESCAPE.sub(" ", text or "")) or ""
    if len(plain) <= limit:
        return plain
    return plain[: limit - 1].rsplit(" ", 1)[0].rstrip() + "…"
