"""`python -m trainer explore` as a process of its own, and requests to it."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models import VAE, CodeEncoder, Encoder, Generator, freeze
from tests.support import processes
from trainer.export.exported_model import EncoderKind, ExportMetadata, Model

FIRST_SECONDS = 60.0  # that the program has to begin


@dataclass
class Server:
    """A running program and its port."""

    running: processes.Running
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, content, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, content: Any) -> bytes:
        """The body of an answer to JSON, or to the bytes of a file."""
        status, body = self.ask("POST", path, content if isinstance(content, bytes) else json.dumps(content).encode())
        assert status == 200, body
        return body

    def refused(self, path: str, content: Any, status: int = 400) -> str:
        """The message of an answer that says what is wrong."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        found, body = self.ask("POST", path, data)
        assert found == status, body
        message: str = json.loads(body)["error"]
        return message

    def fitted(self, content: Any) -> list[dict[str, Any]]:
        """What a fit tells, to its end."""
        return [json.loads(line) for line in self.post("/api/fit", content).splitlines()]


@contextmanager
def exploring(export: object, folder: Path, *more: object) -> Iterator[Server]:
    """The program on any free port, with its names in `folder`; it is stopped as by Ctrl-C and must end well."""
    names = [] if "--names" in more else ["--names", folder / "names.json"]
    argv = ["explore", export, "--port", "0", "--no-open", *names, *more]
    running = processes.command("trainer", argv, folder / "logs")
    try:
        yield Server(running, port_of(running))
        running.kill(2)
        assert running.wait(30) == 0, running.err
        assert "Traceback" not in running.err
    finally:
        running.kill()


def port_of(running: processes.Running) -> int:
    """The port that a program that has just been started prints."""
    end = time.monotonic() + FIRST_SECONDS
    while not (match := re.search(r"http://[^:]+:(\d+)/", running.out)):
        assert running.process.is_alive(), running.err
        assert time.monotonic() < end, running.err
        time.sleep(0.02)
    return int(match[1])


LABELS = [{"name": "hair", "classes": ["short", "long"]}, {"name": "beard", "classes": ["none", "full", "chin"]}]


def untrained(
    resolution: int, skips: bool, c_dim: int = 3, encoder: EncoderKind = "vae", labelled: bool = False
) -> Model:
    """A small model that has learnt nothing. Its image layers are not zero. labelled: told LABELS, s_dim 4."""
    torch.manual_seed(0)
    z_dim = 4 + c_dim + (5 if labelled else 0)
    sizes = {"resolution": resolution, "nf": 1, "nf_max": 8, "z_dim": z_dim, "start_resolution": 64, "skips": skips}
    generator = Generator(**sizes)  # type: ignore[arg-type]
    for layer in generator.to_rgb.values():
        torch.nn.init.normal_(layer.conv.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    freeze(generator)
    codes, labels = "prior" if c_dim else "none", LABELS if labelled else None
    metadata = ExportMetadata("resnet", sizes, resolution, None, 3, 4, c_dim, codes, encoder, {}, labels)
    vae = VAE(3, c_dim) if encoder == "vae" else None
    q = CodeEncoder(vae.encoder if vae else Encoder(3, c_dim)) if encoder != "none" else None
    model = Model(metadata, generator, q, vae)
    model.label_rows = torch.tensor([[0, 0], [1, 1], [1, 2], [0, -1]]) if labelled else model.label_rows
    return model


def write_export(model: Model, folder: Path) -> Path:
    """A model with a VAE, or with no encoder, as an export without codes of images."""
    folder.mkdir()
    for name, network in (("generator", model.generator), ("encoder", model.vae)):
        if network is not None:
            save_file(network.state_dict(), folder / f"{name}.safetensors")
    if len(model.label_rows):
        save_file({"labels": model.label_rows}, folder / "bank.safetensors")
    (folder / "export.json").write_bytes(model.metadata.to_json())
    return folder
