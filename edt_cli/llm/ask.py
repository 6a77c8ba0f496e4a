"""What both LLM stages share: prompts as files, replies that are checked and repaired."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edt_backends.base import BackendError, ChatBackend, ChatReply, ChatRequest, Message
from edt_cli.config import LLMSettings
from edt_cli.data.clean import clean_text

Shape = TypeVar("Shape", bound=BaseModel)

TITLE_CHARACTERS = 200
REPEATED_CHARACTERS = 4000
"""Of an unusable reply, in the question that repairs it."""
LAST_CHARACTERS = 300
REPAIR = Path(__file__).parent / "prompts" / "repair.md"

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
    match = re.fullmatch(r"version: (\d+)\n+(?:# System\n+(.*?)\n+)?# User\n+(.*?)\n*", text, re.DOTALL)
    if match is None:
        raise ValueError(f"{path} is no prompt: it needs `version: N`, `# System` (but for a repair) and `# User`")
    version, system, user = match.groups(default="")
    return Prompt(f"{path.stem}@{version}", Template(system), Template(user))


@cache
def schema(shape: type[BaseModel], at_most: int | None = None) -> dict[str, Any]:
    """The JSON schema that a reply of this shape holds to; its one list with at most so many elements."""
    found = shape.model_json_schema()
    if at_most is not None:
        (listed,) = (field for field in found["properties"].values() if field.get("type") == "array")
        listed |= {"minItems": 1, "maxItems": at_most}
    return found


def request(
    prompt: Prompt,
    settings: LLMSettings,
    shape: type[BaseModel],
    fields: Mapping[str, Any],
    inputs: Mapping[str, Any],
    user: str | None = None,
    at_most: int | None = None,
) -> ChatRequest:
    """One question; `inputs` are the facts for a backend that is no LLM, `task` among them.

    `at_most`: how many elements the list in the reply is to have; a small model that is held to a grammar would
    otherwise fill it until its tokens are spent.
    """
    return ChatRequest(
        prompt=prompt.name,
        messages=prompt.messages(**fields),
        schema=schema(shape, at_most),
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
class UsageStats:
    """What the replies of a stage cost when they were made, and what was spent on them now.

    `repairs` were tried, `repaired` of them led to an answer; `failed` counts questions by reason.
    """

    replies: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    new_prompt_tokens: int = 0
    new_completion_tokens: int = 0
    cost_usd: float = 0.0
    spent_usd: float = 0.0
    unpriced: int = 0
    repairs: int = 0
    repaired: int = 0
    models: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    newest: tuple[ChatRequest, ChatReply] | None = field(default=None, repr=False)

    def add(self, reply: ChatReply, question: ChatRequest) -> None:
        cost = reply.usage.cost_usd
        self.newest = (question, reply)
        self.replies += 1
        self.cached += reply.cached
        self.prompt_tokens += reply.usage.prompt_tokens
        self.completion_tokens += reply.usage.completion_tokens
        if not reply.cached:
            self.new_prompt_tokens += reply.usage.prompt_tokens
            self.new_completion_tokens += reply.usage.completion_tokens
        self.cost_usd += cost or 0.0
        self.spent_usd += 0.0 if reply.cached else cost or 0.0
        self.unpriced += cost is None
        self.models[reply.model] = self.models.get(reply.model, 0) + 1

    def fail(self, failed: Failed) -> Failed:
        self.failed[failed.reason] = self.failed.get(failed.reason, 0) + 1
        return failed

    def last(self) -> dict[str, str]:
        """The newest reply, cleaned, and what it answers."""
        if self.newest is None:
            return {}
        question, reply = self.newest
        return {"user": question.user or "", "prompt": question.prompt, "text": clean(reply.text, LAST_CHARACTERS)}

    def summary(self) -> dict[str, Any]:
        kept = replace(self, newest=None)
        return {name: value for name, value in asdict(kept).items() if name not in ("failed", "newest")}


async def ask(
    chat: ChatBackend,
    question: ChatRequest,
    shape: type[Shape],
    usage: UsageStats,
    check: Callable[[Shape], Failed | None] = lambda answer: None,
) -> Shape | Failed:
    """The validated reply, or why there is none; `check` may find a reply of the right shape of no use.

    An unusable reply gets one repair: the question with what is wrong, or with twice the tokens where it was cut
    off. It is remembered meanwhile, so that a run that breaks off in between pays for it once; where the repair
    is of no use either both are set aside, and a later run asks again. Errors: BackendError where asking on is
    pointless (a wrong key, money spent); a lost call is a `Failed`.
    """
    asked: list[ChatRequest] = []
    found: Shape | Failed = Failed("no reply")
    following: ChatRequest | None = question
    while following is not None:
        try:
            reply = await chat.complete(following)
        except BackendError as error:
            if not error.retryable:
                raise
            return usage.fail(Failed("no reply", clean(str(error), 300)))
        asked.append(following)
        usage.add(reply, following)
        found = _judge(reply, shape, check)
        following = None
        if isinstance(found, Failed) and len(asked) == 1 and chat.cacheable:
            following = repair(question, reply, found)
            usage.repairs += 1
    if isinstance(found, Failed):
        for request in asked:
            chat.reject(request)
        return usage.fail(found)
    usage.repaired += len(asked) - 1
    return found


def _judge(reply: ChatReply, shape: type[Shape], check: Callable[[Shape], Failed | None]) -> Shape | Failed:
    if reply.finish_reason == "content_filter":
        return Failed("refused")
    found = parse(reply.text, shape)
    if not isinstance(found, Failed):
        return check(found) or found
    if reply.finish_reason == "length":
        return Failed("cut off", "raise --set llm.max_tokens")
    return found if reply.text.strip() else Failed("empty")


def repair(question: ChatRequest, reply: ChatReply, failed: Failed) -> ChatRequest:
    """The second and last try at a question whose reply was of no use."""
    prompt = load_prompt(REPAIR)
    name = f"{question.prompt}+{prompt.name}"
    if failed.reason == "cut off":
        return replace(question, prompt=name, max_tokens=2 * question.max_tokens)
    problem = json.dumps(f"{failed.reason} {failed.detail}".strip(), ensure_ascii=False)
    text = prompt.user.substitute(problem=problem)
    *before, last = question.messages
    if reply.text.strip():
        before += [last, Message("assistant", reply.text[:REPEATED_CHARACTERS])]
        last = Message("user", text)
    else:  # there are servers that take neither an empty turn nor two of one role
        last = replace(last, content=f"{last.content}\n\n{text}")
    return replace(question, prompt=name, messages=(*before, last))


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


def clean(text: str | None, limit: int) -> str:
    """Text of an LLM as data: cleaned like the catalogue's, without escape sequences, at most `limit` long."""
    plain = clean_text(_ESCAPE.sub(" ", text or "")) or ""
    if len(plain) <= limit:
        return plain
    return plain[: limit - 1].rsplit(" ", 1)[0].rstrip() + "…"
