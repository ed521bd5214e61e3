"""Downloads against a real server on loopback: each ends in the right bytes or in a clear error."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from notbugs.data import download
from notbugs.data.download import Published, fetch
from notbugs.errors import InputError
from notbugs.progress import silent
from tests.pictures import noise

BYTES = noise(1_000_000).tobytes()
RIGHT = Published("set.tar.gz", sha256(BYTES).hexdigest(), len(BYTES))


class Server(ThreadingHTTPServer):
    """What it answers can be changed; it remembers the ranges it was asked for."""

    block_on_close = False
    body = BYTES
    ranges = True
    die_after: int | None = None
    status = 200
    redirect = ""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        here = self.server
        here.asked.append(self.headers.get("Range", "all"))
        if self.path == "/login":
            return self.answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        if here.redirect:
            return self.answer(302, b"", {"Location": here.redirect})
        if here.status != 200:
            return self.answer(here.status, b"no", {})
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not (wanted and here.ranges):
            return self.answer(200, here.body, {})
        first = int(wanted[1])
        if first >= len(here.body):
            return self.answer(416, b"", {})
        total = len(here.body)
        return self.answer(206, here.body[first:], {"Content-Range": f"bytes {first}-{total - 1}/{total}"})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in ({"Content-Type": "application/gzip", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: self.server.die_after])
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def left(folder) -> set[str]:
    return {file.name for file in folder.iterdir()} - {".lock"}


def test_a_file_is_downloaded_once(server, tmp_path):
    told = []
    path = fetch(RIGHT, server.base, tmp_path / "new", lambda done, total, note="": told.append((done, total, note)))
    assert path.read_bytes() == BYTES
    assert told[-1] == (len(BYTES), len(BYTES), "downloading")
    assert fetch(RIGHT, server.base + "/", tmp_path / "new", silent) == path
    assert server.asked == ["all"]
    assert left(tmp_path / "new") == {"set.tar.gz"}


def test_a_wrong_file_of_that_name_is_fetched_again(server, tmp_path):
    (tmp_path / "set.tar.gz").write_bytes(BYTES[:-1] + b"x")
    assert fetch(RIGHT, server.base, tmp_path, silent).read_bytes() == BYTES


def test_what_a_killed_download_left_is_gone_on_with(server, tmp_path):
    (tmp_path / "set.tar.gz.part").write_bytes(BYTES[:700_000])
    assert fetch(RIGHT, server.base, tmp_path, silent).read_bytes() == BYTES
    assert server.asked == ["bytes=700000-"]


def test_a_connection_that_dies_is_taken_up_again(server, tmp_path):
    server.die_after = 300_000
    assert fetch(RIGHT, server.base, tmp_path, silent).read_bytes() == BYTES
    assert server.asked == ["all", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_server_without_ranges_begins_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "set.tar.gz.part").write_bytes(b"x" * 700_000)
    assert fetch(RIGHT, server.base, tmp_path, silent).read_bytes() == BYTES
    assert server.asked == ["bytes=700000-"]


def test_a_server_that_always_dies(server, tmp_path):
    server.ranges, server.die_after = False, 300_000
    with pytest.raises(InputError, match=r"could not be downloaded: .*; 300\.0 kB of 1\.0 MB are here. Try again"):
        fetch(RIGHT, server.base, tmp_path, silent)
    assert len(server.asked) == download.ATTEMPTS
    assert left(tmp_path) == {"set.tar.gz.part"}
    server.die_after = None
    assert fetch(RIGHT, server.base, tmp_path, silent).read_bytes() == BYTES


def test_a_truncated_file(server, tmp_path):
    server.body = BYTES[:-10]
    with pytest.raises(InputError, match=r"set\.tar\.gz could not be downloaded: .* of 1\.0 MB are here"):
        fetch(RIGHT, server.base, tmp_path, silent)
    assert "set.tar.gz" not in left(tmp_path)


@pytest.mark.parametrize("body", [BYTES[:-1] + b"x", BYTES + b"x"], ids=["wrong", "long"])
def test_a_wrong_file_is_not_kept(server, tmp_path, body):
    server.body = body
    with pytest.raises(InputError, match=r"is not the published file: got .* with SHA-256 .*, expected 1\.0 MB"):
        fetch(RIGHT, server.base, tmp_path, silent)
    assert left(tmp_path) == set()


def test_a_part_of_another_file_is_not_kept(server, tmp_path):
    (tmp_path / "set.tar.gz.part").write_bytes(b"x" * 700_000)
    with pytest.raises(InputError, match="Nothing was kept. Try again"):
        fetch(RIGHT, server.base, tmp_path, silent)
    assert fetch(RIGHT, server.base, tmp_path, silent).read_bytes() == BYTES


def test_a_redirect_to_a_web_page(server, tmp_path):
    server.redirect = "/login"
    with pytest.raises(InputError, match=r"answered with a web page \(http.*/login\).*Is there a login or a proxy"):
        fetch(RIGHT, server.base, tmp_path, silent)
    assert left(tmp_path) == set()


def test_a_redirect_to_the_file(server, tmp_path):
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.redirect = other.base + "/elsewhere"
        assert fetch(RIGHT, server.base, tmp_path, silent).read_bytes() == BYTES
        other.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [404, 503])
def test_a_server_that_does_not_have_it(server, tmp_path, status):
    server.status = status
    with pytest.raises(InputError, match=f"could not be downloaded: the server answered {status}"):
        fetch(RIGHT, server.base, tmp_path, silent)


def test_an_offline_machine(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(
        InputError, match=rf"refused; 0 bytes of 1\.0 MB are here.*offline, copy the file to {tmp_path}"
    ):
        fetch(RIGHT, base, tmp_path, silent)
    assert left(tmp_path) == set()


def test_a_full_disk_is_seen_before(server, tmp_path):
    with pytest.raises(InputError, match=r"10000000\.0 GB are needed in .*, and .* are free. Free some space, or name"):
        fetch(Published("x", "0" * 64, 10**16), server.base, tmp_path, silent)
    assert server.asked == []
