"""An HTTP server of a folder, with the ways in which real ones answer: slowly, without ranges, now and then not."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileServer(ThreadingHTTPServer):
    """Serves `folder`. What it does may be changed while it runs.

    ranges: whether it knows byte ranges; fail_every: of so many requests one gets status 503 (0: none); status: of
    every request, where it is none of success; latency: seconds before each answer. requests: path and range of all.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.ranges, self.fail_every, self.status, self.latency = folder, True, 0, 200, 0.0
        self.requests: list[tuple[str, str | None]] = []
        self.failed = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def whole(self, name: str) -> int:
        """How many requests there were for the first bytes of a file that cover all of it, or for no range of it."""
        size = (self.folder / name).stat().st_size
        return sum(
            path == f"/{name}" and (asked is None or asked == f"bytes=0-{size - 1}") for path, asked in self.requests
        )

    def outcome(self, path: str, asked: str | None) -> int:
        """Note a request. Returns the status that it gets, as far as it does not depend on the file."""
        with self._lock:
            self.requests.append((path, asked))
            if self.fail_every and len(self.requests) % self.fail_every == 0:
                self.failed += 1
                return 503
        return self.status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        time.sleep(self.server.latency)
        status = self.server.outcome(self.path, asked)
        file = self.server.folder / self.path.lstrip("/")
        if status != 200 or not file.is_file():
            self._answer(status if status != 200 else 404, b"")
            return
        data = file.read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "")
        if match and self.server.ranges:
            self._answer(206, data[int(match[1]) : int(match[2]) + 1])
        else:
            self._answer(200, data)

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except ConnectionError:  # the client was killed
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    with FileServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":  # FOLDER SECONDS: serves a folder with so much latency, until it is ended
    with FileServer(Path(sys.argv[1])) as alone:
        alone.latency = float(sys.argv[2])
        print(alone.url, flush=True)
        alone.serve_forever()
