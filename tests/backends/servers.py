"""HTTP servers on loopback that speak the protocols of OpenAI and of Ollama, with a script behind them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Script = Callable[[Body], "Reply"]


@dataclass(frozen=True)
class Reply:
    """What the server sends: JSON, or `raw` bytes, under a status, after `seconds`.

    `cut`: half of it, then nothing; `drip`: seconds before each byte.
    """

    body: Body
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    seconds: float = 0.0
    cut: bool = False
    drip: float = 0.0


@dataclass
class Asked:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: Body


@dataclass
class Server:
    """A running server: `url`, and `asked`, what it was asked so far."""

    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def serve(scripts: dict[str, Script]) -> Iterator[Server]:
    """Answer POSTs to the paths by their scripts, and anything else with 404."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append(Asked(self.path, dict(self.headers), body))
            script = scripts.get(self.path)
            reply = script(body) if script else Reply({"error": {"message": f"no {self.path}"}}, 404)
            sent = json.dumps(reply.body).encode() if reply.raw is None else reply.raw
            time.sleep(reply.seconds)
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if reply.drip:
                for byte in sent:
                    time.sleep(reply.drip)
                    self.wfile.write(bytes([byte]))
                return
            self.wfile.write(sent[: len(sent) // 2] if reply.cut else sent)
            self.close_connection |= reply.cut

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the client did not wait
                super().handle()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def openai_chat(text: str, finish_reason: str = "stop") -> Reply:
    message = {"role": "assistant", "content": text}
    return Reply(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "served-model",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }
    )


def openai_embeddings(body: Body) -> Reply:
    """The vector of a text is [characters, 2, 0], in another order than asked."""
    data = [
        {"object": "embedding", "index": index, "embedding": [float(len(text)), 2.0, 0.0]}
        for index, text in enumerate(body["input"])
    ]
    usage = {"prompt_tokens": 5 * len(data), "total_tokens": 5 * len(data)}
    return Reply({"object": "list", "data": data[::-1], "model": "served-embedder", "usage": usage})


def openai_error(status: int, message: str, **more: Any) -> Reply:
    return Reply({"error": {"message": message, "type": "error", "param": None, "code": None, **more}}, status)


def ollama_chat(text: str) -> Reply:
    return Reply(
        {
            "model": "llama3.1",
            "created_at": "2025-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": text},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 11,
            "eval_count": 7,
        }
    )


def ollama_embeddings(body: Body) -> Reply:
    return Reply(
        {
            "model": "nomic-embed-text",
            "embeddings": [[float(len(text)), 2.0, 0.0] for text in body["input"]],
            "prompt_eval_count": 5 * len(body["input"]),
        }
    )
