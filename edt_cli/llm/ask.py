"""Asking an LLM: prompts from files, replies that are checked and repaired."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

from edt_backends.base import BackendError, ChatBackend, ChatReply, ChatRequest, Message
from edt_cli.config import LLMSettings
from edt_cli.data.clean import clean_text
from edt_cli.llm.prompt_set import Prompt, Prompts
from edt_cli.llm.replies import LEFT_OUT, read

Shape = TypeVar("Shape", bound=BaseModel)

TITLE_CHARACTERS = 200
REPEATED_CHARACTERS = 4000
"""Most characters of an unusable reply that the repair request repeats."""
LAST_CHARACTERS = 300
"""Most characters of the newest reply that are shown."""
THINKING = 8192
"""Further tokens for a model that was cut off while it thought."""
ROW = 20
"""Unusable replies in a row that end a stage."""
TOO_LONG = "too long"
ADVICE = {
    TOO_LONG: "its context is too small for these questions, however short: take another model, or give it more",
    "cut off": "raise --set llm.max_tokens",
    "empty": "a model that thinks first may need more: raise --set llm.max_tokens",
    "refused": "the provider refuses these questions: take another model",
    "no JSON": "this model does not answer in the form that is asked for: take another, or look at the server's "
    "chat template",
}
BUILT_IN = Prompts()

_ESCAPE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b.")


@cache
def schema(shape: type[BaseModel], at_most: int | None = None) -> dict[str, Any]:
    """Return the JSON schema of a reply; its only list has at most `at_most` elements."""
    document = shape.model_json_schema()
    if at_most is not None:
        (listed,) = (field for field in document["properties"].values() if field.get("type") == "array")
        listed |= {"minItems": 1, "maxItems": at_most}
    return document


def request(
    prompt: Prompt,
    settings: LLMSettings,
    shape: type[BaseModel],
    fields: Mapping[str, Any],
    inputs: Mapping[str, Any],
    user: str | None = None,
    at_most: int | None = None,
    shorter: Callable[[], ChatRequest | None] | None = None,
) -> ChatRequest:
    """Build a request.

    Args:
        prompt: The prompt.
        settings: Settings of the LLM.
        shape: Class of the reply.
        fields: Values of the prompt's fields.
        inputs: Facts for a backend that is not an LLM, among them `task`.
        user: Id of the user whose data the request contains.
        at_most: Most elements of the list in the reply. A small model that is constrained to a grammar would
            otherwise add elements until its tokens run out.
        shorter: Function that returns the same question about fewer, newer purchases; None if there are none to
            leave out.
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
        shorter=shorter,
    )


@dataclass(frozen=True)
class Failed:
    """Question without a usable answer: `reason` is a short category, `detail` the error."""

    reason: str
    detail: str = ""


RARE = ("shortened", "cached_prompt_tokens")
"""Counts that a summary has only where they are not 0."""


@dataclass
class UsageStats:
    """Usage of a stage's replies: when they were made, and newly in this command.

    Attributes:
        replies: Number of replies, of which `cached` came from the cache.
        prompt_tokens: Tokens when the replies were made, as are `completion_tokens` and `cost_usd`.
        cached_prompt_tokens: Those of them that the provider had read before.
        new_prompt_tokens: Tokens of this command, as are `new_completion_tokens` and `spent_usd`.
        unpriced: Replies without a known price.
        seconds: Time of all replies when they were made, and `slowest` that of the slowest.
        repairs: Repairs that were tried, of which `repaired` led to an answer.
        mended: Number of replies in which something was mended, by what; `left out` counts items and fields.
        shortened: Questions that were too long, and were asked about the user's newest purchases alone.
        models: Number of replies by model.
        failed: Number of failed questions by reason.
        newest: The newest reply and its request.
        row: Reason and text of the unusable replies since the last usable one; what the cache answers is no part.
    """

    replies: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    new_prompt_tokens: int = 0
    new_completion_tokens: int = 0
    cost_usd: float = 0.0
    spent_usd: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    repairs: int = 0
    repaired: int = 0
    mended: dict[str, int] = field(default_factory=dict)
    shortened: int = 0
    models: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    newest: tuple[ChatRequest, ChatReply] | None = field(default=None, repr=False)
    row: list[tuple[str, str]] = field(default_factory=list, repr=False)

    def add(self, reply: ChatReply, question: ChatRequest) -> None:
        """Count a reply."""
        cost = reply.usage.cost_usd
        self.newest = (question, reply)
        self.replies += 1
        self.cached += reply.cached
        self.prompt_tokens += reply.usage.prompt_tokens
        self.cached_prompt_tokens += reply.usage.cached_tokens
        self.completion_tokens += reply.usage.completion_tokens
        if not reply.cached:
            self.new_prompt_tokens += reply.usage.prompt_tokens
            self.new_completion_tokens += reply.usage.completion_tokens
        self.cost_usd += cost or 0.0
        self.spent_usd += 0.0 if reply.cached else cost or 0.0
        self.unpriced += cost is None
        self.seconds += reply.seconds
        self.slowest = max(self.slowest, reply.seconds)
        self.models[reply.model] = self.models.get(reply.model, 0) + 1

    def judge(self, reply: ChatReply, failed: Failed | None) -> None:
        """Count a reply in the row of unusable ones, or end the row."""
        if failed is None:
            self.row.clear()
        elif not reply.cached:
            self.row.append((failed.reason, clean(reply.text, LAST_CHARACTERS)))

    def check_row(self, chat: ChatBackend) -> None:
        """Check that not all of the newest replies were unusable.

        Raises:
            BackendError: If they were, before more is paid for nothing; it shows one and says what to change.
        """
        if len(self.row) < ROW or not chat.cacheable:
            return
        causes = Counter(reason for reason, _ in self.row)
        reason = causes.most_common(1)[0][0]
        shown = next((text for cause, text in self.row if cause == reason and text), "")
        raise BackendError(
            f"{chat.name}: none of {len(self.row)} replies in a row could be used ("
            + ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
            + (f"), such as: {shown}" if shown else ")")
            + f" | {ADVICE.get(reason, ADVICE['no JSON'])}; what was paid for is kept, and --retry-failed asks anew"
        )

    def fail(self, failed: Failed) -> Failed:
        """Count a failed question and return it."""
        self.failed[failed.reason] = self.failed.get(failed.reason, 0) + 1
        return failed

    def mend(self, mended: Mapping[str, int]) -> None:
        """Count what was mended in one reply."""
        for what, times in mended.items():
            self.mended[what] = self.mended.get(what, 0) + (times if what == LEFT_OUT else 1)

    def last(self) -> dict[str, str]:
        """Return the newest reply, cleaned, with its user and prompt."""
        if self.newest is None:
            return {}
        question, reply = self.newest
        return {"user": question.user or "", "prompt": question.prompt, "text": clean(reply.text, LAST_CHARACTERS)}

    def summary(self) -> dict[str, Any]:
        """Return the counts for an artefact's summary, as JSON values."""
        counts = asdict(replace(self, newest=None))
        left_out = {"failed", "newest", "row"} | {name for name in RARE if not counts[name]}
        return {name: value for name, value in counts.items() if name not in left_out}


async def ask(
    chat: ChatBackend,
    question: ChatRequest,
    shape: type[Shape],
    usage: UsageStats,
    check: Callable[[Shape], Failed | None] = lambda answer: None,
    prompts: Prompts = BUILT_IN,
) -> Shape | Failed:
    """Ask a question and return the validated reply, or why there is none.

    An unusable reply gets one repair: the question again, with the problem, or with twice the tokens if the reply
    was cut off. Both stay in the cache: a later command reads them again, perhaps better, and pays for nothing; it
    asks again only if the user wants that. A question that is too long for the model is asked about fewer, newer
    purchases, as often as there are some to leave out. A call that failed for good is a `Failed`.

    Args:
        chat: The LLM.
        question: The request.
        shape: Class of the reply.
        usage: Where replies are counted.
        check: Function that says why a reply of the right shape is unusable; None if it is usable.
        prompts: Prompts, of which a repair is asked with one.

    Raises:
        BackendError: If further requests are pointless (a wrong key, no budget left, a model whose replies are all
            unusable).
    """
    question = with_thoughts(question, chat)
    for reply in chat.set_aside(question):
        if not isinstance(answer := _judge(reply, shape, check, usage), Failed):
            usage.add(reply, question)
            return answer
    answer, sent = await _ask(chat, question, shape, usage, check, prompts)
    if isinstance(answer, Failed) and sent and all(chat.asks_again(request) for request in sent):
        for request in sent:
            chat.reject(request)
        answer, _ = await _ask(chat, question, shape, usage, check, prompts)
    return usage.fail(answer) if isinstance(answer, Failed) else answer


def with_thoughts(question: ChatRequest, chat: ChatBackend) -> ChatRequest:
    """Return a question with the tokens that its model needs to think before it answers."""
    return replace(question, max_tokens=question.max_tokens + chat.thinking_tokens)


async def _ask(
    chat: ChatBackend,
    question: ChatRequest,
    shape: type[Shape],
    usage: UsageStats,
    check: Callable[[Shape], Failed | None],
    prompts: Prompts,
) -> tuple[Shape | Failed, list[ChatRequest]]:
    """Ask a question and, if the reply is unusable, its repair; return the answer and the requests with a reply."""
    sent: list[ChatRequest] = []
    answer: Shape | Failed = Failed("no reply")
    following: ChatRequest | None = question
    shortened = False
    while following is not None:
        usage.check_row(chat)
        try:
            reply = await chat.complete(following)
        except BackendError as error:
            if error.only_this and (shorter := question.shorter() if question.shorter else None) is not None:
                usage.shortened += not shortened
                shortened = True
                following = question = with_thoughts(shorter, chat)
                continue
            if error.only_this:
                usage.row.append((TOO_LONG, clean(str(error), LAST_CHARACTERS)))
                return Failed(TOO_LONG, clean(str(error), 300)), sent
            if not error.retryable:
                raise
            return Failed("no reply", clean(str(error), 300)), sent
        sent.append(following)
        usage.add(reply, following)
        answer = _judge(reply, shape, check, usage)
        usage.judge(reply, answer if isinstance(answer, Failed) else None)
        following = None
        if isinstance(answer, Failed) and len(sent) == 1 and chat.cacheable:
            following = repair(question, reply, answer, prompts)
            usage.repairs += 1
    usage.repaired += len(sent) - 1 if not isinstance(answer, Failed) else 0
    return answer, sent


def _judge(
    reply: ChatReply, shape: type[Shape], check: Callable[[Shape], Failed | None], usage: UsageStats
) -> Shape | Failed:
    if reply.finish_reason == "content_filter":
        return Failed("refused", clean(reply.text, 300))
    reading = read(reply.text, shape)
    failed: Failed | None = Failed("empty")
    if reading.answer is not None:
        failed = check(reading.answer)
    elif reply.text.strip():
        failed = Failed(reading.reason, clean(reading.detail, 300))
    if reading.answer is not None and failed is None:
        usage.mend(reading.mended)
        return reading.answer
    assert failed is not None
    return Failed("cut off", "raise --set llm.max_tokens") if reply.finish_reason == "length" else failed


def repair(question: ChatRequest, reply: ChatReply, failed: Failed, prompts: Prompts = BUILT_IN) -> ChatRequest:
    """Return the request of the second and last attempt at a question."""
    prompt = prompts["repair"]
    name = f"{question.prompt}+{prompt.name}"
    if failed.reason == "cut off":
        thought = not reply.text.strip() or "<think" in reply.text
        more = max(question.max_tokens, THINKING) if thought else question.max_tokens
        return replace(question, prompt=name, max_tokens=question.max_tokens + more)
    problem = json.dumps(f"{failed.reason} {failed.detail}".strip(), ensure_ascii=False)
    text = prompt.user.substitute(problem=problem)
    *before, last = question.messages
    if reply.text.strip():
        before += [last, Message("assistant", reply.text[:REPEATED_CHARACTERS])]
        last = Message("user", text)
    else:  # some servers accept neither an empty turn nor two turns of the same role
        last = replace(last, content=f"{last.content}\n\n{text}")
    return replace(question, prompt=name, messages=(*before, last))


def clean(text: str | None, limit: int) -> str:
    """Clean a text of an LLM like those of the catalogue; remove escape sequences; cut it to `limit`."""
    plain = clean_text(_ESCAPE.sub(" ", text or "")) or ""
    if len(plain) <= limit:
        return plain
    return plain[: limit - 1].rsplit(" ", 1)[0].rstrip() + "…"
