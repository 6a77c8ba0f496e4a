"""A server on loopback that speaks OpenAI's files and batches; its jobs end when a test says so."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class BatchServer:
    """A running server.

    Attributes:
        url: Its address.
        answer: Returns the response of one line: a status and a body; None if it is never answered.
        open: Whether jobs end at once.
        status: What an ended job says of itself.
        jobs: The jobs by id, as it tells them.
        lines: The lines of each job's input, by its file.
        refuses: Status with which a job is refused; 0 if it is not.
    """

    url: str
    answer: Callable[[Body], tuple[int, Body] | None]
    open: bool = True
    status: str = "completed"
    jobs: dict[str, Body] = field(default_factory=dict)
    lines: dict[str, list[Body]] = field(default_factory=dict)
    refuses: int = 0

    @property
    def asked(self) -> list[Body]:
        """The bodies of all questions that came in, job after job."""
        return [line["body"] for job in self.jobs.values() for line in self.lines[job["input_file_id"]]]

    def post(self, path: str, content: bytes) -> tuple[int, Body]:
        if path == "/files":
            text = content.decode("utf-8", "replace")
            lines = [json.loads(line) for line in re.findall(r'^\{"custom_id".*\}\r?$', text, re.MULTILINE)]
            name = f"file-{len(self.lines)}"
            self.lines[name] = lines
            return 200, self.file(name)
        if self.refuses:
            return self.refuses, {"error": {"message": "no such job", "type": "invalid_request_error"}}
        asked = json.loads(content)
        job = {
            "id": f"batch_{len(self.jobs)}",
            "object": "batch",
            "endpoint": asked["endpoint"],
            "completion_window": asked["completion_window"],
            "input_file_id": asked["input_file_id"],
            "metadata": asked["metadata"],
            "created_at": 1,
            "status": "in_progress",
            "request_counts": {"total": len(self.lines[asked["input_file_id"]]), "completed": 0, "failed": 0},
        }
        self.jobs[job["id"]] = job
        return 200, job

    def get(self, path: str) -> Body | str:
        if match := re.fullmatch(r"/batches/(\w+)", path):
            return self.ended(self.jobs[match[1]]) if self.open else self.jobs[match[1]]
        if match := re.fullmatch(r"/files/of-(\w+)/content", path):
            return self.output(self.jobs[match[1]])
        return {"object": "list", "data": list(self.jobs.values())[::-1], "has_more": False}

    def ended(self, job: Body) -> Body:
        return {**job, "status": self.status, "output_file_id": f"of-{job['id']}"}

    def output(self, job: Body) -> str:
        lines = []
        for line in self.lines[job["input_file_id"]]:
            if response := self.answer(line["body"]):
                status, body = response
                said = {"status_code": status, "request_id": "r", "body": body}
                lines.append(
                    json.dumps({"id": "1", "custom_id": line["custom_id"], "response": said, "error": None})
                )
        return "\n".join(lines[::-1])

    @staticmethod
    def file(name: str) -> Body:
        return {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": name, "purpose": "batch"}


@contextmanager
def serve_batches(answer: Callable[[Body], tuple[int, Body] | None]) -> Iterator[BatchServer]:
    """Serve batches whose lines are answered by `answer`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._send(*server.post(self._path(), self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self._send(200, server.get(self._path()))

        def _path(self) -> str:
            return self.path.partition("?")[0].removeprefix("/v1")

        def _send(self, status: int, body: Body | str) -> None:
            sent = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = BatchServer(f"http://127.0.0.1:{httpd.server_port}/v1", answer)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
