"""All that stands between a stage and a provider, without the stage.

python tests/backends/stack.py WORKSPACE URL QUESTIONS      prints {"asked": ..., "failed": {...}}
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from edt_backends.base import ChatBackend, ChatRequest, Message
from edt_backends.cache import CachedChat
from edt_cli.augmentation.generation import Reply, no_items
from edt_cli.config import Settings
from edt_cli.llm.ask import Failed, UsageStats, ask
from edt_cli.llm.providers import Providers
from edt_cli.llm.work import Spool, StageProgress, work
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace

PRICE = (0.5, 1.5)
WORDS = "oak pine steel copper linen cotton small large red blue green old new round".split()  # noqa: SIM905
SCHEMA = Reply.model_json_schema()


def words(seed: int, count: int) -> str:
    return " ".join(random.Random(seed).sample(WORDS, count))


def question(number: int) -> ChatRequest:
    """About 1.5 kB, unlike any other."""
    system = Message("system", 'Reply with one JSON document and nothing else:\n{"items": [{"title": "..."}]}')
    titles = json.dumps([{"title": f"{words(number * 7 + place, 6)} {number}"} for place in range(12)])
    user = Message("user", f"The customer's purchases:\n{titles}")
    return ChatRequest("generate@1", (system, user), SCHEMA, 1024, 0.0, 42, user=f"U{number}")


def stack(
    workspace: Path, url: str, *, retry_failed: bool = False, concurrency: int = 16, **limits: Any
) -> CachedChat:
    """What `edt` asks through: cache, pace, budget, litellm."""
    llm = {"provider": "openai/served", "api_base": url, "concurrency": concurrency}
    settings = Settings().changed(llm=llm, limits={"price": f"{PRICE[0]},{PRICE[1]}", **limits})
    return Providers(Workspace(workspace), settings, retry_failed=retry_failed).chat()


def answer_all(
    chat: ChatBackend, questions: int | list[ChatRequest], concurrency: int = 16
) -> tuple[float, UsageStats]:
    """Seconds for so many questions, through all that a stage does with an answer; and what it took."""
    count = questions if isinstance(questions, int) else len(questions)
    bill, spool = UsageStats(), Spool(count)

    async def job(number: int) -> None:
        asked = question(number) if isinstance(questions, int) else questions[number]
        found = await ask(chat, asked, Reply, bill, no_items)
        spool.put(number, [found.reason] if isinstance(found, Failed) else found.model_dump())

    begun = time.perf_counter()
    jobs = (partial(job, number) for number in range(count))
    asyncio.run(work(jobs, concurrency, Events(), StageProgress(Events(), "try", count, chat, bill)))
    return time.perf_counter() - begun, bill


if __name__ == "__main__":
    chat = stack(Path(sys.argv[1]), sys.argv[2], retry_failed=True, timeout=3, backoff=0.02)
    _, bill = answer_all(chat, int(sys.argv[3]))
    sys.stdout.write(json.dumps({"asked": int(sys.argv[3]), "failed": bill.failed}))
