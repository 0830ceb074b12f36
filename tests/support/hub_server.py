"""A Hugging Face hub of repositories of models, as far as an upload needs one: the hub's own paths, in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

BIG = (".safetensors", ".onnx", ".pt2")  # files that go by Git LFS


@dataclass
class Repository:
    """private: as it was made; files: by name; commits: their messages."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=lambda: ["initial commit"])

    @property
    def sha(self) -> str:
        return hashlib.sha1(repr(self.commits).encode()).hexdigest()

    def oid(self, name: str) -> str | None:
        """What identifies a file's content: its sha256 where it goes by LFS, else git's hash of it."""
        content = self.files.get(name)
        if content is None:
            return None
        if name.endswith(BIG):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer(ThreadingHTTPServer):
    """token: the valid one; repositories: by OWNER/NAME; requests: method and path of all; received: contents of LFS.

    owner: whose repositories may be written; fails_at: a part of a path whose requests get status 500.
    """

    daemon_threads = True

    def __init__(self, token: str, owner: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token, self.owner, self.fails_at = token, owner, ""
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.received: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        self._handle(self.rfile.read(int(self.headers["Content-Length"])))

    do_PUT = do_POST

    def _handle(self, body: bytes) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        status, answer = self._result(path, body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _result(self, path: str, body: bytes) -> tuple[int, Any]:
        if self.server.fails_at and self.server.fails_at in path:
            return 500, {"error": "a fault of the hub"}
        if self.command == "PUT":  # to the store of LFS, whose addresses need no token
            self.server.received[path.rpartition("/")[2]] = body
            return 200, {}
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return 401, {"error": "Invalid credentials in Authorization header"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        return self._of_repository(path, body)

    def _of_repository(self, path: str, body: bytes) -> tuple[int, Any]:
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._place(each) for each in json.loads(body)["objects"]]}
        owner, name, *action = path.removeprefix("/api/models/").split("/")
        repository = self.server.repositories.get(f"{owner}/{name}")
        if repository is None:
            return 404, {"error": "Repository not found"}
        if action in ([], ["revision", "main"]):
            return 200, {"id": f"{owner}/{name}", "sha": repository.sha, "private": repository.private}
        if action == ["preupload", "main"]:
            return 200, {"files": [_mode(repository, each["path"]) for each in json.loads(body)["files"]]}
        assert action == ["commit", "main"], path
        _commit(repository, [json.loads(line) for line in body.splitlines()], self.server.received)
        url = f"{self.server.url}/{owner}/{name}/commit/{repository.sha}"
        return 200, {"commitUrl": url, "commitOid": repository.sha}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != self.server.owner:
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        if name in self.server.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}
        self.server.repositories[name] = Repository(asked.get("visibility") == "private" or bool(asked.get("private")))
        return 200, {"url": f"{self.server.url}/{name}"}

    def _validate(self, card: str) -> tuple[int, Any]:
        empty, front, _ = card.split("---\n", 2)
        fields = yaml.safe_load(front)
        if empty or fields["license"] not in ("mit", "other") or not all(isinstance(t, str) for t in fields["tags"]):
            return 400, {"errors": [{"message": "no such licence, or other tags than text"}], "warnings": []}
        return 200, {"errors": [], "warnings": []}

    def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.server.received:
            return asked
        return asked | {"actions": {"upload": {"href": f"{self.server.url}/lfs/{asked['oid']}"}}}

    def log_message(self, format: str, *args: object) -> None:
        pass


def _commit(repository: Repository, lines: list[dict[str, Any]], received: dict[str, bytes]) -> None:
    """Apply a header and operations, whose large files have been received."""
    header, *operations = lines
    for operation in operations:
        value = operation["value"]
        if operation["key"] == "file":
            repository.files[value["path"]] = base64.b64decode(value["content"])
        else:
            assert operation["key"] == "lfsFile"
            repository.files[value["path"]] = received[value["oid"]]
    repository.commits.append(header["value"]["summary"])


def _mode(repository: Repository, name: str) -> dict[str, Any]:
    mode = "lfs" if name.endswith(BIG) else "regular"
    return {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": repository.oid(name)}


@contextmanager
def hub(token: str, owner: str) -> Iterator[HubServer]:
    with HubServer(token, owner) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
