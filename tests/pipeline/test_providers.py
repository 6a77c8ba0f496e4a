"""Money, from the command line: estimates, limits, failed users, the cache's own commands; a real server behind."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "backends"))

from batch_server import serve_batches
from fault_run import write_shop
from model_server import answer
from servers import Body, Reply, Server, openai_chat, openai_embeddings, serve

from edt_backends import directory
from edt_backends.base import BackendError
from edt_backends.ledger import Ledger
from edt_backends.lexical import GRAM_FILE, WEIGHT_FILE
from edt_backends.sentences import MINILM_DIMENSION, LocalEmbeddings
from edt_backends.store import ReplyCache
from edt_cli.augmentation.artefact import Augmentation
from edt_cli.cli.app import app
from edt_cli.config import UserError
from edt_cli.llm.embeddings import FILE, ItemEmbeddings, embed_texts, item_texts, load_embedder
from edt_cli.profiling.profiles import Profiles
from edt_cli.training.sizes import TEXT_WIDTH
from edt_cli.workspace.events import Events, read_events
from edt_cli.workspace.layout import read_json

pytestmark = pytest.mark.e2e

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
PRICE = (0.5, 1.5)
USERS, TWINS = 90, 1
"""Two users bought the same one thing: their question is one."""


@dataclass
class Done:
    """How a command ended, as `main` would end it."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def edt(*arguments: str, workspace: Path) -> Done:
    result = CliRunner().invoke(app, [*arguments], env={"EDT_WORKSPACE": str(workspace), "COLUMNS": "160"})
    if isinstance(result.exception, UserError | BackendError):
        return Done(1, result.stdout, str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def turns(body: Body) -> tuple[str, str]:
    system = " ".join(turn["content"] for turn in body["messages"] if turn["role"] == "system")
    return system, next(turn["content"] for turn in body["messages"] if turn["role"] == "user")


def model(body: Body) -> Reply:
    """Answers as it is asked to, in as many words as chance has it; tokens are a quarter of the bytes."""
    system, user = turns(body)
    document = answer(system, user, random.Random(user))
    if "items" in document:
        document["items"] = document["items"][: 2 + len(user) % 4]
    reply = openai_chat(json.dumps(document))
    reply.body["usage"] = {
        "prompt_tokens": (len(system) + len(user)) // 4,
        "completion_tokens": len(json.dumps(document)) // 4,
    }
    return reply


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A workspace with the data and its embeddings."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, USERS)
    files = ("--domain-file", str(folder / "a.csv"), "--domain-file", str(folder / "b.csv"))
    assert edt("data", "prepare", "shop", *files, workspace=folder / "ws").code == 0
    assert edt("augment", "--data", "shop", "--json", workspace=folder / "ws").code == 0
    return folder / "ws"


@pytest.fixture
def place(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "ws")
    return tmp_path / "ws"


@pytest.fixture
def served():
    with serve({CHAT: model}) as server:
        yield server


def at(server: Server, *more: str) -> tuple[str, ...]:
    llm = ("--provider", "openai/served", "--api-base", f"{server.url}/v1", "--price", f"{PRICE[0]},{PRICE[1]}")
    return (*llm, "--data", "shop", "--preset", "llm-edt-ce", "--set", "limits.backoff=0.01", "--json", *more)


def bill(server: Server, since: int = 0) -> float:
    total = 0.0
    for asked in server.asked[since:]:
        usage = model(asked.body).body["usage"]
        total += usage["prompt_tokens"] * PRICE[0] + usage["completion_tokens"] * PRICE[1]
    return total / 1e6


def test_a_dry_run_calls_nobody_and_a_paid_run_asks_first(place, served):
    done = edt("profile", *at(served, "--dry-run"), workspace=place)
    assert done.code == 0 and not served.asked
    document = done.json
    assert document["price_per_million"] == list(PRICE) and document["llm"] == "openai/served"
    augment, profile = document["stages"]
    assert (augment["stage"], profile["stage"]) == ("augment", "profile")
    for stage in document["stages"]:
        assert 0 < stage["calls"][0] <= stage["calls"][1] and stage["cached"] <= 2
        assert 0 < stage["cost_usd"][0] < stage["cost_usd"][1] and 0 < stage["seconds"][0] <= stage["seconds"][1]
        assert stage["basis"] == "stated ranges"
    assert augment["paper_usd_a_user"] == 0.000194
    stages = edt("train", *at(served, "--final", "--dry-run"), workspace=place).json["stages"]
    assert [stage["stage"] for stage in stages] == ["augment", "profile"] * 2, "of the run that it makes first, too"
    done = edt("profile", *at(served), workspace=place)
    assert done.code == 1 and "say --yes" in done.error and not served.asked
    done = edt("augment", *at(served, "--price", "free", "--limit-users", "3"), workspace=place)
    assert done.code == 0 and len(served.asked) == 3, "what costs nothing is not asked about"


def test_after_a_pilot_the_estimate_is_near_what_the_rest_costs(place, served):
    assert edt("profile", *at(served, "--yes", "--limit-users", "25"), workspace=place).code == 0
    done = len(served.asked)
    document = edt("profile", *at(served, "--dry-run"), workspace=place).json
    assert len(served.asked) == done
    assert all(stage["basis"].startswith("replies in the cache: ") for stage in document["stages"])
    before = bill(served)
    assert edt("profile", *at(served, "--yes"), workspace=place).code == 0
    cost = bill(served) - before
    low, high = document["cost_usd"]
    assert cost * 0.75 <= low <= high <= cost * 1.25
    calls = [sum(stage["calls"][end] for stage in document["stages"]) for end in (0, 1)]
    assert (len(served.asked) - done) * 0.75 <= calls[0] <= calls[1] <= (len(served.asked) - done) * 1.25
    after = edt("profile", *at(served, "--dry-run"), workspace=place).json
    assert after["stages"] == []


def test_a_limit_stops_cleanly_and_the_next_run_goes_on(place, served):
    done = edt("augment", *at(served, "--yes", "--max-cost", "0.01"), workspace=place)
    assert done.code == 1 and not done.out
    assert (
        done.error.startswith("the limit of 0.01 USD is reached: ")
        and " left; run the same command again" in done.error
    )
    asked = len(served.asked)
    assert asked > 0 and bill(served) <= 0.01
    events = read_events(max((place / "jobs").iterdir()))
    last = [event for event in events if event.event == "calls"][-1]
    assert last.limit_usd == 0.01 and 0 < last.done < last.total == last.done + last.left
    assert last.spent_usd == pytest.approx(bill(served))
    assert events[-1].event == "ended" and events[-1].outcome == "failed"
    assert "limit of 0.01" in events[-1].error
    summary = edt("augment", *at(served, "--yes"), workspace=place).json
    assert len(served.asked) == summary["asked"] - TWINS and summary["llm"]["cached"] == asked + TWINS


def test_no_limit_without_a_price(place, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    done = edt(
        "augment", "--data", "shop", "--provider", "openai/no-such-model", "--max-cost", "1", workspace=place
    )
    assert done.code == 1 and "the price of openai/no-such-model is not known" in done.error
    monkeypatch.delenv("OPENAI_API_KEY")
    asks = ("augment", "--data", "shop", "--provider", "openai/gpt-4o-mini")
    assert edt(*asks, "--dry-run", "--json", workspace=place).json["cost_usd"][0] > 0, (
        "who calls nobody needs no key"
    )
    done = edt("train", "--data", "nothing", "--provider", "gpt-3.5", workspace=place)
    assert done.error == "openai/gpt-3.5-turbo needs a key: set the environment variable OPENAI_API_KEY"


def test_an_embedder_that_is_paid_for_is_in_the_estimate_in_the_budget_and_in_the_bill(place, monkeypatch):
    with serve({CHAT: model, EMBEDDINGS: openai_embeddings}) as server:
        embedder = ("--embedder", "openai/served-embedder", "--set", f"embedding.api_base={server.url}/v1")
        priced = (*embedder, "--set", "limits.embedder_price=0.02")
        document = edt("augment", *at(server, *priced, "--dry-run"), workspace=place).json
        embed, augment = document["stages"]
        assert not server.asked and embed["stage"] == "embed" and 0 < embed["cost_usd"][0] < embed["cost_usd"][1]
        assert augment["calls"][0] > 50
        done = edt("augment", *at(server, *priced, "--yes", "--max-cost", "0.0000001"), workspace=place)
        assert done.code == 1 and "the limit of 1e-07 USD is reached" in done.error and not server.asked
        assert edt("augment", *at(server, *priced, "--yes"), workspace=place).code == 0
        monkeypatch.setenv("EDT_EMBEDDING_API_BASE", f"{server.url}/v1")
        monkeypatch.setenv("EDT_LIMITS_EMBEDDER_PRICE", "0.02")
        llm = ("--llm", "openai/served,openai/served-embedder", "--api-base", f"{server.url}/v1")
        cost = ("reproduce", "cost", "--data", "shop", *llm, "--price", f"{PRICE[0]},{PRICE[1]}")
        paid, _ = edt(*cost, "--dry-run", "--json", workspace=place).json["tables"]
    accounts = Ledger(place / "ledger.db").accounts()
    account = accounts["openai/served-embedder"]
    assert account.delivered == account.calls >= 2 and account.spent_usd == pytest.approx(
        account.prompt_tokens * 0.02e-6
    )
    left, spent = ({row["label"]: row["cells"][column] for row in paid["rows"]} for column in (5, 6))
    assert spent["embedding"]["mean"] == pytest.approx(account.spent_usd)
    assert spent["generation"]["mean"] == pytest.approx(accounts["openai/served"].spent_usd)
    assert left["generation"]["mean"] == 0 < left["summarization"]["mean"] and spent["summarization"] == "–"


def only(place: Path, kind: str) -> Path:
    """The folder of the one artefact of its kind, or the newest."""
    return max((path.parent for path in (place / "artefacts" / kind).glob("*/manifest.json")), key=modified)


def modified(path: Path) -> int:
    return path.stat().st_mtime_ns


def test_what_is_embedded_later_goes_through_the_map_of_the_items(place, served):
    items, events = only(place, "embeddings"), Events()
    read = {path.name: modified(path) for path in items.iterdir()}
    assert read.keys() == {"manifest.json", FILE, GRAM_FILE, WEIGHT_FILE}
    assert read_json(items / "manifest.json")["model"] == "local (all-MiniLM-L6-v2 + lexical)"
    assert edt("profile", *at(served, "--yes"), workspace=place).code == 0
    assert read == {path.name: modified(path) for path in items.iterdir()}, "fitted once"

    embedder = load_embedder(LocalEmbeddings(), items)
    catalogue = pl.read_parquet(place / "data" / "shop" / "items.parquet")
    embeddings, texts = ItemEmbeddings.load(items), item_texts(catalogue)
    assert embeddings.vectors.shape == (len(catalogue) + 1, TEXT_WIDTH) and None not in texts
    np.testing.assert_allclose(embed_texts(texts, embedder, events), embeddings.vectors[1:], atol=1e-6)

    augmentation = Augmentation.load(only(place, "augmentation"))
    assert len(augmentation.pseudo) > 10
    found = embed_texts(item_texts(augmentation.pseudo), embedder, events)
    np.testing.assert_allclose(augmentation.pseudo_vectors, found, atol=1e-6)
    assert np.abs(found[:, MINILM_DIMENSION:]).sum() > 0

    profiles = Profiles.load(only(place, "profiles"))
    written = [row for row, text in enumerate(profiles.texts) if text is not None]
    assert len(written) > 80
    found = embed_texts([profiles.texts[row] for row in written], embedder, events)
    np.testing.assert_allclose(profiles.vectors[written], found, atol=1e-6)

    (items / WEIGHT_FILE).write_bytes(b"nonsense")
    done = edt("profile", *at(served, "--yes", "--set", "profiling.chain=naive"), workspace=place)
    assert done.code == 1 and done.error.startswith("the lexical map in ") and "is damaged" in done.error
    assert "\n" not in done.error


def test_minilm_by_its_name_has_no_map(place):
    before = {path.name for path in (place / "artefacts" / "embeddings").iterdir()}
    plain = ("--embedder", "local/all-MiniLM-L6-v2", "--data", "shop", "--json")
    assert edt("augment", *plain, workspace=place).code == 0
    items = only(place, "embeddings")
    assert items.name not in before and {path.name for path in items.iterdir()} == {"manifest.json", FILE}
    assert ItemEmbeddings.load(items).vectors.shape[1] == MINILM_DIMENSION


def failing(users: set[str]) -> Callable[[Body], Reply]:
    """The model, but that it answers nothing of use to questions that hold one of these words."""

    def script(body: Body) -> Reply:
        return openai_chat("Sorry.") if any(user in turns(body)[1] for user in users) else model(body)

    return script


def test_failed_users_are_kept_shown_and_asked_again_if_that_is_wanted(place):
    scripts = {CHAT: failing({"copper linen"})}
    with serve(scripts) as server:
        first = edt("augment", *at(server, "--yes"), workspace=place).json
        failed = first["failed"]["no JSON"]
        assert 0 < failed < first["asked"] and first["users"] == USERS
        before = len(server.asked)
        assert edt("augment", *at(server, "--yes"), workspace=place).json["key"] == first["key"]
        assert edt("augment", *at(server, "--yes", "--limit-users", "40"), workspace=place).code == 0
        assert len(server.asked) == before, "what failed is neither asked again nor in any other stage"
        again = edt("augment", *at(server, "--yes", "--retry-failed"), workspace=place).json
        assert 2 * failed - 2 * TWINS <= len(server.asked) - before <= 2 * failed, (
            "each failed question and its repair, nothing else"
        )
        assert again["key"] == first["key"], "nothing came of it"
        scripts[CHAT] = model
        before = len(server.asked)
        assert edt("augment", *at(server, "--dry-run"), workspace=place).json["stages"] == []
        document = edt("augment", *at(server, "--dry-run", "--retry-failed"), workspace=place).json
        assert document["stages"][0]["calls"][1] >= failed
        done = edt("augment", *at(server, "--yes", "--retry-failed"), workspace=place).json
        assert done["failed"] == {} and failed - TWINS <= len(server.asked) - before <= failed
        assert done["key"] != first["key"], "what is made from it is made anew"
        before = len(server.asked)
        assert edt("augment", *at(server, "--yes"), workspace=place).json["key"] == done["key"]
        assert len(server.asked) == before


def test_a_stage_that_fails_is_not_made(place):
    scripts = {CHAT: failing({" "})}
    with serve(scripts) as server:
        done = edt("augment", *at(server, "--yes"), workspace=place)
        assert done.code == 1 and "replies in a row could be used" in done.error and "Sorry." in done.error
        assert 20 <= len(server.asked) < 60, "those that were asked already came to their end"
        scripts[CHAT] = model
        done = edt("augment", *at(server, "--yes", "--max-failed", "0.01"), workspace=place)
        assert done.code == 1 and "more than --max-failed 0.01, so it is not made" in done.error
        before = len(server.asked)
        assert edt("augment", *at(server, "--yes"), workspace=place).code == 0 and len(server.asked) == before
        manifest = read_json(only(place, "augmentation") / "manifest.json")
        assert 0.01 < manifest["failed_share"] < 0.5


def test_what_was_sent_about_a_user_is_shown_word_for_word_and_forgotten(place, served):
    edt("profile", *at(served, "--yes", "--limit-users", "4"), workspace=place)
    sent = {json.dumps(asked.body["messages"]) for asked in served.asked}
    cache = ReplyCache(place / "cache")
    user = next(entry["users"][0] for _, entry in cache.entries() if entry.get("users"))
    entries = edt("inspect", user, "--data", "shop", "--prompts", "--json", workspace=place).json["sent"]
    assert entries and all(json.dumps(entry["messages"]) in sent for entry in entries)
    assert edt("inspect", "nobody", "--data", "shop", "--prompts", workspace=place).code == 1
    text = edt("inspect", user, "--data", "shop", "--prompts", workspace=place).out
    assert "[system]" in text and entries[0]["reply"].splitlines()[0][:30] in text
    assert edt("cache", "forget", user, "--yes", workspace=place).code == 0
    assert edt("inspect", user, "--data", "shop", "--prompts", "--json", workspace=place).json["sent"] == []
    assert "is in the cache" in edt("inspect", user, "--data", "shop", "--prompts", workspace=place).out


def test_a_cache_is_counted_shared_and_cleared(place, served, tmp_path):
    edt("augment", *at(served, "--yes"), workspace=place)
    asked = len(served.asked)
    stats = edt("cache", "stats", "--json", workspace=place).json
    ours = stats["models"]["openai/served"]
    assert ours["entries"] == ours["calls"] == asked and ours["spent_usd"] == pytest.approx(bill(served))
    assert "openai/served" in edt("cache", "stats", workspace=place).out
    books = edt("cache", "verify", "--json", workspace=place)
    assert (books.code, books.json["agreed"], books.json["differences"]) == (0, asked, [])
    (stage,) = edt("cache", "stats", "--by", "stage", "--json", workspace=place).json["stages"].items()
    assert stage[0] == "augment" and stage[1]["calls"] == asked and stage[1]["seconds"] > 0
    assert stage[1]["spent_usd"] == pytest.approx(bill(served)) and stage[1]["users"] == asked + TWINS
    assert "augment" in edt("cache", "stats", "--by", "stage", workspace=place).out
    told = edt("augment", *at(served, "--yes")[:-2], "--yes", workspace=place).out
    assert all(word in told for word in ("asked about", "kept by r", "a user), ", "the slowest")), told
    file = tmp_path / "replies.jsonl"
    assert edt("cache", "export", str(file), "--model", "openai/served", workspace=place).code == 0
    assert len(file.read_text().splitlines()) == asked and "U1" not in file.read_text().replace('U1"', "")
    other = tmp_path / "other"
    shutil.copytree(place, other, ignore=shutil.ignore_patterns("cache", "ledger*", "augmentation", "runs"))
    assert edt("cache", "import", str(file), "--json", workspace=other).json == {"new": asked, "known": 0}
    summary = edt("augment", *at(served, "--yes"), workspace=other).json
    assert len(served.asked) == asked and summary["llm"]["spent_usd"] == 0
    saved = edt("cache", "stats", "--json", workspace=other).json["models"]["openai/served"]
    assert saved["hits"] == asked + TWINS and saved["saved_usd"] == pytest.approx(bill(served), rel=0.05)
    assert "there are: " in edt("cache", "clear", "--model", "nobody", "--yes", workspace=place).error
    assert edt("cache", "clear", "--model", "openai/served", "--yes", workspace=place).code == 0
    left = edt("cache", "stats", "--json", workspace=place).json["models"]["openai/served"]
    assert (left["entries"], left["calls"]) == (0, asked), "what was spent stays on record"
    assert edt("cache", "verify", workspace=place).code == 1
    file.write_text('{"key": 1}\n')
    assert "line 1 is not a reply" in edt("cache", "import", str(file), workspace=place).error


def test_a_prompt_is_tried_and_costs_nothing_the_second_time(place, served):
    tried = ("prompts", "try", "generate", *at(served, "--user", "one-domain"))
    dry = edt(*tried, "--dry-run", workspace=place).json
    assert not served.asked and dry["most_usd"] > 0
    assert edt(*tried, workspace=place).code == 1, "who is asked for money says --yes"
    first, again = (edt(*tried, "--yes", workspace=place).json for _ in range(2))
    assert len(served.asked) == 1 and first["spent_usd"] > 0 == again["spent_usd"]
    assert first["items"] == again["items"] and first["exchanges"][0]["reply"]
    text = edt(*tried[:-3], "--user", "one-domain", "--yes", workspace=place).out
    assert all(word in text for word in ("[system]", "[reply]", "nearest purchase", "USD of it now")), text


def test_providers(place, served, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret-0123456789")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-0123456789")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = edt("providers", "--json", workspace=place)
    assert "secret" not in done.out
    rows = {row["provider"]: row for row in done.json["providers"]}
    assert next(iter(rows)) == "local" and rows["local"]["usd_per_million"] == [0, 0]
    deepseek = rows["deepseek"]
    assert (deepseek["key"], deepseek["has_key"], deepseek["problem"]) == ("DEEPSEEK_API_KEY", True, None)
    assert deepseek["usd_per_million"][1] > 0
    assert rows["gpt-3.5"]["has_key"] is False and "OPENAI_API_KEY" in rows["gpt-3.5"]["problem"]
    assert rows["ollama"]["key"] is None and "anthropic" in rows
    own = ("providers", "openai/served", "--api-base", f"{served.url}/v1", "--ping", "--json")
    (row,) = edt(*own, workspace=place).json["providers"]
    assert row["answers"].startswith("yes, in ") and len(served.asked) == 1
    dead = ("providers", "openai/served", "--api-base", "http://127.0.0.1:9/v1", "--ping", "--json")
    assert "cannot be reached" in edt(*dead, workspace=place).json["providers"][0]["answers"]
    assert "DEEPSEEK_API_KEY" in edt("providers", workspace=place).out


def test_the_list_of_providers_is_the_one_that_litellm_gives_and_does_not_wait_for_it(monkeypatch):
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret-0123456789")
    monkeypatch.setenv("GEMINI_API_KEY", "sk-secret-0123456789")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    at_a_glance, asked = (list(directory.providers(asked=asked)) for asked in (False, True))
    assert [replace(one, backend=None) for one in asked] == [replace(one, backend=None) for one in at_a_glance]
    code = (
        "import sys; from edt_backends import directory; found = list(directory.providers(asked=False)); "
        "assert len(found) >= 5, found; assert 'litellm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_batch_jobs_make_the_profiles_that_calls_make(place, tmp_path, served, monkeypatch):
    """One job reforms, one summarizes each domain, one analyzes."""
    monkeypatch.setattr("edt_backends.batches.QUIET_SECONDS", 0.05)
    monkeypatch.setattr("edt_backends.batches.POLL_SECONDS", 0.05)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    shutil.copytree(place, tmp_path / "by-calls")
    common = ("--data", "shop", "--limit-users", "12", "--price", "0.5,1.5", "--yes", "--json", "--no-ui")
    off = ("--set", "augmentation.enabled=false", "--provider", "openai/served-model")
    with serve_batches(lambda body: (200, model(body).body)) as batches:
        done = edt("profile", *common, *off, "--api-base", batches.url, "--batch-api", workspace=place)
        again = edt("profile", *common, *off, "--api-base", batches.url, workspace=place)
    calls = edt("profile", *common, *off, "--api-base", f"{served.url}/v1", workspace=tmp_path / "by-calls")
    assert (done.code, again.code, calls.code) == (0, 0, 0), done.error + calls.error
    assert again.json["key"] == done.json["key"]
    assert len(batches.jobs) <= 4 and len(batches.asked) == len(served.asked)
    roots = (place, done), (tmp_path / "by-calls", calls)
    texts = [Profiles.load(root / "artefacts" / "profiles" / found.json["key"]).texts for root, found in roots]
    assert texts[0] == texts[1] and sum(text is not None for text in texts[0]) == 12
    paid = [Ledger(root / "ledger.db").accounts()["openai/served-model"] for root, _ in roots]
    assert paid[0] == paid[1] and paid[0].spent_usd > 0
