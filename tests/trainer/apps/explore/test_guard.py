"""Other websites cannot use the server by way of the user's browser, nor other machines without --host."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from tests.support.exploring import Server
from trainer.apps.explore.guard import Guard


def status(server: Server, **headers: str) -> int:
    return server.ask("POST", "/api/names", json.dumps({"latent": "c1", "name": ""}).encode(), headers)[0]


def test_requests_of_other_websites_are_refused(sprites: Server) -> None:
    here = f"127.0.0.1:{sprites.port}"
    assert status(sprites) == 200
    assert status(sprites, Host=here, Origin=f"http://{here}") == 200
    assert status(sprites, Host="localhost:9000", Origin="http://localhost:9000") == 200, "by way of ssh -L"
    for headers in (
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": f"https://{here}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "elsewhere.example"},
        {"Host": f"elsewhere.example:{sprites.port}", "Origin": f"http://elsewhere.example:{sprites.port}"},
        {"Host": "127.0.0.1.elsewhere.example"},
        {"Host": "[::"},
        {"Host": "192.168.0.7"},
    ):
        assert status(sprites, **headers) == 403, headers
    assert sprites.ask("GET", "/", headers={"Host": "elsewhere.example"})[0] == 403, "a page too says what is explored"


def test_only_this_machine_can_connect(sprites: Server) -> None:
    with pytest.raises(ConnectionRefusedError):  # a server of all addresses would listen there, too
        socket.create_connection(("127.0.0.2", sprites.port), timeout=5)


def test_with_host_addresses_and_the_names_of_this_machine_are_served() -> None:
    guard = Guard("0.0.0.0")
    for host in ("192.168.0.7:8800", "[fe80::1]:8800", "localhost", socket.gethostname(), "127.0.0.1"):
        assert guard.refusal(host, None) is None, host
        assert guard.refusal(host, f"http://{host}") is None, host
        assert guard.refusal(host, "http://elsewhere.example") is not None
    assert guard.refusal("elsewhere.example", None) is not None
    assert not guard.is_local
    named = Guard("Lab.example")
    assert named.refusal("lab.example:8800", None) is None
    assert all(Guard(local).is_local for local in ("127.0.0.1", "localhost", "::1", "127.0.0.3"))


def test_every_answer_forbids_the_page_to_load_from_elsewhere(sprites: Server) -> None:
    for path in ("/", "/app.js", "/api/model", "/api/nothing"):
        connection = http.client.HTTPConnection("127.0.0.1", sprites.port, timeout=10)
        connection.request("GET", path)
        policy = connection.getresponse().headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        connection.close()
