"""What the command refuses before it serves a page, and the model behind it without a server."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support import processes
from tests.support.training import finish
from trainer.apps.explore import serve
from trainer.apps.explore.serve import Request

from .conftest import SPRITES


def refusal(export: object = SPRITES, port: int = 0, host: str = "127.0.0.1", names: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        serve.explore(Request(Path(str(export)), names, host, port, False, "cpu"))
    return str(caught.value)


def test_what_is_no_export_is_refused_with_the_way_to_one(tmp_path: Path) -> None:
    assert "no export (no export.json)" in refusal(tmp_path / "nothing")
    (tmp_path / "config.yaml").write_text("")
    assert f"python -m trainer export {tmp_path} OUT" in refusal(tmp_path)
    metadata = json.loads((Path(SPRITES) / "export.json").read_bytes())
    (tmp_path / "export.json").write_text(json.dumps(metadata | {"format": 0}))
    assert "has format 0, this program reads 1 and 2; export the run again" in refusal(tmp_path)


def test_a_port_or_address_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = processes.command("trainer", ["explore", SPRITES, "--port", port, "--no-open"], tmp_path)
        finish(running, 2)
    assert running.err == (
        f"error: --port: {port}: is used by another program; name another, or 0 for any that is free\n"
    )
    assert refusal(host="192.0.2.1").startswith("--host: 192.0.2.1: ")  # of no machine: RFC 5737
    assert refusal(host="no such host").startswith("--host: no such host: ")


def test_without_aiohttp_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp.web", None)
    assert "explore: aiohttp is not installed" in (message := refusal())
    assert "[explore]'" in message


@pytest.mark.parametrize("content", ["{", "[]", '{"c1": 3}'])
def test_a_file_of_names_that_holds_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(content)
    message = refusal(names=tmp_path / "names.json")
    assert message.startswith(f"{tmp_path / 'names.json'}: holds no names of latents")
    assert "remove it" in message
    assert (tmp_path / "names.json").read_text() == content
