"""A process that speaks OpenAI's protocol with a scripted model behind it, and keeps the books.

    python tests/backends/model_server.py --port 0 --log calls.jsonl --seconds 0.2 --faults 0.2 --seed 1

It prints its port. The model answers the prompts of `edt` in the form that each asks for. A share of the calls
fails in one of FAULTS, by a chance that the prompt and the number of its calls decide. Every call is a line of the
log: the digest of its prompt, what became of it ("delivered": the reply left as a whole, with its usage), whether
its text was good for something, its tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

UNDELIVERED = ("429", "500", "hang", "dropped")
DELIVERED = ("invalid", "truncated", "wrong schema", "empty choices", "refused", "100 kB")
FAULTS = UNDELIVERED + DELIVERED


def answer(system: str, user: str, draw: random.Random) -> Any:
    """What the prompt asks for."""
    words = WORDS
    if '"items"' in system:
        titles = [" ".join(draw.sample(words, 4)) for _ in range(5)]
        return {"items": [{"title": title, "description": "A thing that one buys."} for title in titles]}
    if '"summaries"' in system:
        clusters = json.loads(re.search(r'^\[\{"cluster".*$', user, re.MULTILINE)[0])
        return {
            "summaries": [
                {"cluster": part["cluster"], "summary": "Likes " + " ".join(draw.sample(words, 5))}
                for part in clusters
            ]
        }
    if '"instruction"' in system:
        return {"instruction": "Weigh both domains alike."}
    return {"profile": "Someone who buys " + " and ".join(draw.sample(words, 8)) + "."}


WORDS = "oak pine steel copper linen cotton small large red blue green old new round".split()  # noqa: SIM905


class Model:
    """One scripted model; `calls` counts by prompt."""

    def __init__(self, seconds: float, faults: float, hang: float, seed: int, log: Path | None) -> None:
        self.seconds, self.faults, self.hang, self.seed = seconds, faults, hang, seed
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.log = log.open("a", buffering=1) if log else None

    def decide(self, body: dict[str, Any]) -> tuple[str, str | None, random.Random]:
        digest = hashlib.sha256(json.dumps([body["messages"], body.get("max_tokens")]).encode()).hexdigest()
        with self.lock:
            self.calls[digest] += 1
            draw = random.Random(f"{self.seed} {digest} {self.calls[digest]}")
        return digest, draw.choice(FAULTS) if draw.random() < self.faults else None, draw

    def note(self, digest: str, became: str, good: bool, usage: dict[str, int]) -> None:
        if self.log:
            with self.lock:
                record = {"prompt": digest, "became": became, "good": good, **usage}
                self.log.write(json.dumps(record) + "\n")


def handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            digest, fault, draw = model.decide(body)
            system = " ".join(turn["content"] for turn in body["messages"] if turn["role"] == "system")
            user = next(turn["content"] for turn in body["messages"] if turn["role"] == "user")
            text = json.dumps(answer(system, user, draw))
            finish = "stop"
            if fault == "invalid":
                text = "Sure! " + text
            elif fault == "truncated":
                text, finish = text[: len(text) // 2], "length"
            elif fault == "wrong schema":
                text = json.dumps({"answer": [1, 2, 3]})
            elif fault == "refused":
                text, finish = "", "content_filter"
            elif fault == "100 kB":
                text = '{"noise": "' + "☕" * 34_000
            usage = {
                "prompt_tokens": (len(system) + len(user)) // 4,
                "completion_tokens": min(len(text) // 4, body.get("max_tokens") or 10**6),
            }
            none: dict[str, int] = dict.fromkeys(usage, 0)
            if fault == "hang":
                model.note(digest, "hang", False, usage)
                time.sleep(model.hang)
                self.close_connection = True
                return
            time.sleep(model.seconds)
            if fault in ("429", "500"):
                model.note(digest, fault, False, none)
                extra = {"Retry-After": "0.2"} if fault == "429" else {}
                self.reply(int(fault), {"error": {"message": "busy", "type": "error"}}, extra)
                return
            message = {"role": "assistant", "content": text}
            choices = [{"index": 0, "message": message, "finish_reason": finish}]
            document = {
                "id": f"chatcmpl-{digest[:12]}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": "scripted-1",
                "choices": [] if fault == "empty choices" else choices,
                "usage": {**usage, "total_tokens": sum(usage.values())},
            }
            if fault == "dropped":
                model.note(digest, "dropped", False, usage)
                self.reply(200, document, cut=True)
                return
            try:
                if self.client_is_gone():
                    raise OSError
                self.reply(200, document)
                model.note(digest, "delivered", fault is None, usage)
            except OSError:
                model.note(digest, "gone", False, usage)

        def reply(self, status: int, document: Any, extra: dict[str, str] | None = None, cut: bool = False) -> None:
            sent = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in (extra or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent[: len(sent) // 2] if cut else sent)
            if cut:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        def client_is_gone(self) -> bool:
            """Killed, or it waited no longer: a write would go through all the same."""
            try:
                return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False

        def do_GET(self) -> None:
            self.reply(200, {"data": []})

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the client is gone
                super().handle()

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--hang", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    model = Model(given.seconds, given.faults, given.hang, given.seed, given.log)
    server = Server(("127.0.0.1", given.port), handler(model))
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
