"""An export arrives whole at a hub, and the token nowhere else. The hub is one of the test's own, on this machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import processes
from tests.support.hub_server import HubServer, hub
from tests.support.training import finish

TOKEN = "hf_aTokenThatNobodyMayEverSee0123456789"
SHIPPED = Path("pretrained/dsprites-idgan")


@pytest.fixture
def server() -> Iterator[HubServer]:
    with hub(TOKEN, "me") as running:
        yield running


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped export, small, with a file that is not part of it."""
    out = Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("export") / "sprites"))
    (out / ".env").write_text("PASSWORD=1234\n")
    return out


def freshly(argv: list[str]) -> None:
    """`python -m trainer ARGV` with a client of the hub that reads the environment of this process."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        del sys.modules[name]
    processes.module("trainer", argv)


def push(place: Path, url: str, folder: Path, *more: str, token: str = TOKEN, code: int = 0) -> processes.Running:
    """The ended command; neither its output nor a file that it wrote has the token."""
    home = place / "home"
    env = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home), "HF_TOKEN": token, "HOME": str(home)}
    running = processes.start(freshly, (["push", str(folder), *more],), place / "logs", env)
    finish(running, code)
    for path in (path for top in (place, folder) for path in top.rglob("*") if path.is_file()):
        assert TOKEN.encode() not in path.read_bytes(), path
    assert "Traceback" not in running.err
    return running


def test_the_files_of_an_export_arrive_whole(server: HubServer, export: Path, tmp_path: Path) -> None:
    """In one commit, without what else lies in the folder; the card begins with what the hub reads."""
    running = push(tmp_path, server.url, export, "me/sprites")
    assert f"uploaded to {server.url}/me/sprites: " in running.out
    assert "HTTP Request" not in running.err
    repository = server.repositories["me/sprites"]
    assert not repository.private
    assert len(repository.commits) == 2
    names = {path.name for path in SHIPPED.iterdir()}
    assert repository.files.keys() == names
    for name in names - {"README.md"}:
        assert repository.files[name] == (export / name).read_bytes(), name
    card = repository.files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["tags"] == ["id-gan", "dsprites", "disentanglement"]
    assert card.endswith((export / "README.md").read_text())


def test_the_same_command_again_sends_what_has_changed(server: HubServer, export: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(export, tmp_path / "copy"))
    push(tmp_path, server.url, copy, "me/sprites", "--private")
    repository = server.repositories["me/sprites"]
    assert repository.private
    server.requests.clear()
    running = push(tmp_path, server.url, copy, "me/sprites", "--private")
    assert running.out == f"{server.url}/me/sprites has these {len(repository.files)} files already\n"
    assert not [request for request in server.requests if "commit" in request or request.startswith("PUT")]
    card = (copy / "README.md").read_text()
    (copy / "README.md").write_text(card + "\nMore.\n")
    push(tmp_path, server.url, copy, "me/sprites")
    assert repository.files["README.md"].decode().endswith("\nMore.\n")
    assert len(repository.commits) == 3
    assert not [request for request in server.requests if request.startswith("PUT")]


def test_what_cannot_be_pushed_is_refused_before_anything_is_sent(
    server: HubServer, export: Path, tmp_path: Path
) -> None:
    """All of it at once, where there is more."""
    damaged = Path(shutil.copytree(export, tmp_path / "damaged"))
    content = bytearray((damaged / "generator.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "generator.safetensors").write_bytes(content)
    incomplete = Path(shutil.copytree(export, tmp_path / "incomplete"))
    (incomplete / "README.md").unlink()
    run = tmp_path / "run"
    run.mkdir()
    for folder, repo, token, words in (
        (run, "me/x", TOKEN, ["run: is no export (no export.json)", "trainer export RUN OUT"]),
        (damaged, "me/x", TOKEN, ["generator.safetensors: is missing or damaged (its sha256"]),
        (incomplete, "me/x", TOKEN, ["README.md: is missing or damaged"]),
        (export, "sprites", TOKEN, ["REPO: sprites: is no name", "OWNER/NAME"]),
        (export, "me/x/y", TOKEN, ["REPO: me/x/y: is no name"]),
        (export, "me/x", "", ["HF_TOKEN: is not set"]),
        (export, "me/x", f"{TOKEN} {TOKEN}", ["HF_TOKEN: holds blanks"]),
        (run, "me/a b", " ", ["push: 3 problems", "REPO: me/a b", "HF_TOKEN: is not set", "is no export"]),
    ):
        running = push(tmp_path, server.url, folder, repo, token=token, code=2)
        for word in words:
            assert word in running.err
    assert not server.requests


def test_what_the_hub_refuses_is_one_message_with_a_remedy(server: HubServer, export: Path, tmp_path: Path) -> None:
    push(tmp_path, server.url, export, "me/public")
    sent = len(server.received)
    for repo, token, words in (
        ("me/x", "hf_other", "set HF_TOKEN to a valid token"),
        ("others/x", TOKEN, "set HF_TOKEN to a token that may write there, or name a repository of yours"),
    ):
        running = push(tmp_path, server.url, export, repo, token=token, code=2)
        assert f"error: push: {repo}: not uploaded (" in running.err
        assert words in running.err
        assert "hf_other" not in running.err
    running = push(tmp_path, server.url, export, "me/public", "--private", code=2)
    assert "--private: me/public: is public" in running.err
    server.fails_at = "/commit/"
    (export / "config.yaml").write_text((export / "config.yaml").read_text() + "# more\n")
    running = push(tmp_path, server.url, export, "me/public", code=2)
    assert "me/public: not uploaded (Server error '500" in running.err
    assert len(server.received) == sent


def test_a_hub_that_cannot_be_reached(export: Path, tmp_path: Path) -> None:
    with hub(TOKEN, "me") as gone:
        url = gone.url
    running = push(tmp_path, url, export, "me/x", code=2)
    assert "error: push: me/x: not uploaded ([Errno 111] Connection refused); see that the network works" in running.err


def test_without_the_package_the_command_that_installs_it_is_named(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.errors import UserError
    from trainer.apps import push as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"push: needs the package huggingface_hub; .*pip install .*\[hub\]"):
        module.push(export, "me/x")
