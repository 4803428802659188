"""A stand-in for the hub on localhost: the few requests that a download makes, and the ways in which one goes wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """Commits by id, each a mapping of file names to bytes; `main` is the branch's commit."""

    commits: dict[str, dict[str, bytes]]
    main: str


@dataclass
class HubServer:
    """What the server has, what it has been asked, and what it does wrong."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    ranges: list[str] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)  # for each coming download of weights: the bytes to send
    stall: Event | None = None  # a download that is cut stalls until this is set, instead of closing
    stalled: Event = field(default_factory=Event)
    corrupt: int = 0  # how many of the coming downloads of weights have a flipped byte
    told: dict[str, str] = field(default_factory=dict)  # a hash to tell of a file in the place of its own
    url: str = ""

    def add(self, repo: str, files: dict[str, bytes]) -> str:
        """A commit on the main branch; returns its id."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        commits = self.repositories[repo].commits if repo in self.repositories else {}
        self.repositories[repo] = Repository({**commits, commit: files}, commit)
        return commit

    def files(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.repositories.get(repo)
        commit = repository.main if repository and revision == "main" else revision
        return (commit, repository.commits[commit]) if repository and commit in repository.commits else None


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def describe(name: str, data: bytes, told: str | None = None) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()
    entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": told or blob}
    if is_large(name):
        entry["lfs"] = {"sha256": told or hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


@contextmanager
def serve() -> Iterator[HubServer]:
    """A server on a free port, until the block ends."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            hub.requests.append(f"{self.command} {path}")
            hub.tokens.add(self.headers.get("Authorization", ""))
            if not path:
                self.reply(200, b"", {}, body)
            elif path.startswith("api/models/"):
                self.answer_info(path.removeprefix("api/models/"))
            else:
                self.answer_file(path, body)

        def answer_info(self, rest: str) -> None:
            repo, _, revision = rest.partition("/revision/")
            found = hub.files(repo, revision or "main")
            if found is None:
                return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, True)
            siblings = [describe(name, data, hub.told.get(name)) for name, data in found[1].items()]
            self.reply(200, json.dumps({"id": repo, "sha": found[0], "siblings": siblings}).encode(), {}, True)

        def answer_file(self, path: str, body: bool) -> None:
            repo, _, rest = path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            found = hub.files(repo, revision)
            if found is None or name not in found[1]:
                return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            data = found[1][name]
            entry = describe(name, data)
            tag = entry["lfs"]["sha256"] if "lfs" in entry else entry["blobId"]
            headers = {"ETag": f'"{tag}"', "X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(data))}
            self.send_data(name, data, {**headers, "X-Repo-Commit": found[0], "Accept-Ranges": "bytes"}, body)

        def send_data(self, name: str, data: bytes, headers: dict[str, str], body: bool) -> None:
            status, start = 200, 0
            if body and (wanted := self.headers.get("Range")):
                hub.ranges.append(wanted)
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                status, headers["Content-Range"] = 206, f"bytes {start}-{len(data) - 1}/{len(data)}"
            if body and is_large(name) and hub.corrupt:
                hub.corrupt -= 1
                data = data[:-1] + bytes([data[-1] ^ 1])
            limit = hub.cut_after.pop(0) if body and is_large(name) and hub.cut_after else None
            self.reply(status, data[start:], headers, body, limit)

        def reply(
            self, status: int, data: bytes, headers: dict[str, str], body: bool, limit: int | None = None
        ) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data[:limit])
            if limit is not None:
                self.close_connection = True
                if hub.stall:
                    self.wfile.flush()
                    hub.stalled.set()
                    hub.stall.wait(30)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
