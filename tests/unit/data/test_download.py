"""Downloads through a real server that breaks off, honours ranges or not, and changes its files."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edt_cli.config import UserError
from edt_cli.data.amazon import PAIRS
from edt_cli.data.download import fetch, fetch_pair
from edt_cli.workspace.events import Events

BODY = hashlib.sha512(b"x").digest() * 40_000  # 2.5 MB that compress to nothing sensible but repeat exactly


class Server(ThreadingHTTPServer):
    """`breaks`: bytes after which the next answers break off; `ranges`: whether Range is honoured."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag, self.ranges, self.length = BODY, '"v1"', True, True
        self.breaks: list[int] = []
        self.asked: list[tuple[str, str | None, str | None]] = []

    def handle_error(self, request, client_address):
        """A client that went away (it had no room, say) is none of the server's business."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        range_, condition = self.headers.get("Range"), self.headers.get("If-Range")
        self.server.asked.append((self.path, range_, condition))
        if "missing" in self.path:
            self.send_error(404)
            return
        body, begin = self.server.body, 0
        if range_ and self.server.ranges and condition == self.server.tag:
            begin = int(re.fullmatch(r"bytes=(\d+)-", range_)[1])
            if begin >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        if self.server.length:
            self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        answer = body[begin:]
        self.wfile.write(answer[: self.server.breaks.pop(0)] if self.server.breaks else answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def heard():
    records = []
    return records, Events(listeners=(records.append,))


def test_a_whole_file(server, tmp_path):
    records, events = heard()
    fetch(f"{server.url}/f", tmp_path / "f", events)
    assert (tmp_path / "f").read_bytes() == BODY
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["f"]
    progress = [record for record in records if record["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"]
    assert any("message" in record for record in progress), "off a terminal a line is said now and then"


def test_a_file_that_is_there_is_not_asked_for(server, tmp_path):
    (tmp_path / "f").write_bytes(b"mine")
    fetch(f"{server.url}/f", tmp_path / "f", Events())
    assert server.asked == []


def test_a_broken_download_goes_on_where_it_broke(server, tmp_path):
    server.breaks = [1_000_000, 700_000]
    fetch(f"{server.url}/f", tmp_path / "f", Events(), pause_s=0)
    assert (tmp_path / "f").read_bytes() == BODY
    assert [range_ for _, range_, _ in server.asked] == [None, "bytes=1000000-", "bytes=1700000-"]


def test_a_later_run_goes_on(server, tmp_path):
    server.breaks = [1_000_000] + [0] * 5
    with pytest.raises(UserError, match=r"broke off at 1 MB .* again to continue"):
        fetch(f"{server.url}/f", tmp_path / "f", Events(), pause_s=0)
    assert not (tmp_path / "f").exists()
    fetch(f"{server.url}/f", tmp_path / "f", Events())
    assert (tmp_path / "f").read_bytes() == BODY
    assert server.asked[-1][1] == "bytes=1000000-"


def test_two_versions_are_never_joined(server, tmp_path):
    server.breaks = [1_000_000] + [0] * 5
    with pytest.raises(UserError):
        fetch(f"{server.url}/f", tmp_path / "f", Events(), pause_s=0)
    server.body, server.tag = BODY[::-1], '"v2"'
    fetch(f"{server.url}/f", tmp_path / "f", Events())
    assert server.asked[-1][2] == '"v1"'
    assert (tmp_path / "f").read_bytes() == BODY[::-1]


@pytest.mark.parametrize("tag", ['W/"weak"', ""])
def test_without_a_strong_tag_it_begins_again(server, tmp_path, tag):
    server.tag, server.breaks = tag, [1_000_000]
    fetch(f"{server.url}/f", tmp_path / "f", Events(), pause_s=0)
    assert [range_ for _, range_, _ in server.asked] == [None, None]
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_server_that_knows_no_ranges(server, tmp_path):
    server.ranges, server.breaks = False, [1_000_000]
    fetch(f"{server.url}/f", tmp_path / "f", Events(), pause_s=0)
    assert (tmp_path / "f").read_bytes() == BODY


def test_all_came_but_the_end_was_not_seen(server, tmp_path):
    (tmp_path / "f.part").write_bytes(BODY)
    (tmp_path / "f.part.tag").write_text('"v1"')
    fetch(f"{server.url}/f", tmp_path / "f", Events())
    assert (tmp_path / "f").read_bytes() == BODY


def test_more_than_there_is_was_of_something_else(server, tmp_path):
    (tmp_path / "f.part").write_bytes(BODY + b"more")
    (tmp_path / "f.part.tag").write_text('"v1"')
    fetch(f"{server.url}/f", tmp_path / "f", Events(), pause_s=0)
    assert (tmp_path / "f").read_bytes() == BODY


def test_no_such_file(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        fetch(f"{server.url}/missing", tmp_path / "f", Events())


def test_offline_is_one_clear_line(tmp_path):
    with Server() as closed:
        url = closed.url
    with pytest.raises(UserError, match=r"cannot reach .* are you online") as caught:
        fetch(f"{url}/f", tmp_path / "f", Events(), pause_s=0)
    assert "--raw DIR" in str(caught.value)


def test_a_full_disk_is_seen_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match="has room for"):
        fetch(f"{server.url}/f", tmp_path / "f", Events())


@pytest.mark.parametrize(
    ("year", "reviews", "metadata"),
    [
        (2018, "/categoryFiles/{}.json.gz", "/metaFiles2/meta_{}.json.gz"),
        (2023, "/review_categories/{}.jsonl.gz", "/meta_categories/meta_{}.jsonl.gz"),
    ],
)
def test_a_pair_is_four_files(server, tmp_path, year, reviews, metadata):
    folder = fetch_pair("cloth-sport", tmp_path / "raw", Events(), year, url=server.url)
    paths = [path for path, _, _ in server.asked]
    assert paths == [path.format(category) for _, category in PAIRS["cloth-sport"] for path in (reviews, metadata)]
    assert {path.name for path in folder.glob("*.gz")} == {path.rsplit("/", 1)[1] for path in paths}
