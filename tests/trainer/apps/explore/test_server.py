"""What the server answers, against the files of `generate`, against `trainer.load`, and after a fit against both."""

from __future__ import annotations

import http.client
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import trainer
from tests.support import processes
from tests.support.exploring import Server, exploring, port_of
from tests.support.training import finish
from trainer.apps.explore import fit

from .conftest import FACES, SPRITES, STAGE_1

SEED = 5


def pixels(png: bytes) -> Tensor:
    """The pixels of a PNG, as the model has images: [1, C, R, R] in [0, 1]."""
    array = torch.from_numpy(np.array(Image.open(io.BytesIO(png)))).float() / 255
    return (array[None] if array.ndim == 2 else array.permute(2, 0, 1))[None]


def image(server: Server, latents: dict[str, Any]) -> bytes:
    return server.post("/api/image", {"s": latents["s"], "c": latents["c"]})


def test_the_image_of_a_seed_has_the_bytes_that_generate_writes(
    faces: Server, sprites: Server, stage_1: Server, tmp_path: Path
) -> None:
    for server, export in ((faces, FACES), (sprites, SPRITES), (stage_1, STAGE_1)):
        out = tmp_path / Path(export).name
        argv = ["generate", export, "--seeds", str(SEED), "--out", out]
        finish(processes.command("trainer", argv, tmp_path / "logs"))
        assert image(server, server.get(f"/api/seed/{SEED}")) == (out / f"seed{SEED:06d}.png").read_bytes()


def test_the_decoding_is_that_of_the_vae(faces: Server) -> None:
    latents, model = faces.get(f"/api/seed/{SEED}"), trainer.load(FACES)
    decoded = (model.decode(torch.tensor([latents["c"]])) * 255).round() / 255
    assert torch.equal(pixels(faces.post("/api/decoding", latents)), decoded)


@pytest.mark.parametrize("name", ["faces", "sprites", "stage_1"])
def test_a_sample_that_is_uploaded_gets_its_code_back(name: str, request: pytest.FixtureRequest) -> None:
    """Its latents that the encoder uses, which spread from -2 to 2, to 0.6: to encode is no exact inverse."""
    server: Server = request.getfixturevalue(name)
    export = {"faces": FACES, "sprites": SPRITES, "stage_1": STAGE_1}[name]
    latents, model = server.get(f"/api/seed/{SEED}"), trainer.load(export)
    png = image(server, latents)
    answer = json.loads(server.post("/api/picture", png))
    torch.testing.assert_close(torch.tensor([answer["c"]]), model.encode(pixels(png))[0], atol=1e-5, rtol=1e-5)
    used = [slider["place"] for slider in server.get("/api/model")["sliders"] if slider["kl"] > 2]
    assert len(used) >= 6
    for place in used:
        assert abs(answer["c"][place] - latents["c"][place]) < 0.6, place
    status, shown = server.ask("GET", f"/api/picture/{answer['picture']}")
    assert (status, shown) == (200, png)


@pytest.mark.parametrize(
    ("name", "with_c", "share"), [("faces", False, 0.7), ("faces", True, 0.4), ("stage_1", True, 0.8)]
)
def test_a_fit_comes_nearer_to_the_picture(
    name: str, with_c: bool, share: float, request: pytest.FixtureRequest
) -> None:
    """Its errors are those of the images that its latents give."""
    server: Server = request.getfixturevalue(name)
    model = trainer.load(FACES if name == "faces" else STAGE_1)
    png = image(server, server.get(f"/api/seed/{SEED}"))
    picture = json.loads(server.post("/api/picture", png))
    start = {"s": [0.0] * model.metadata.s_dim, "c": picture["c"]}
    told = server.fitted({**start, "picture": picture["picture"], "with_c": with_c})
    assert [told[0]["step"], told[-1]["step"]] == [0, fit.STEPS]
    assert told[-1]["error"] < share * told[0]["error"]
    assert (told[-1]["c"] != told[0]["c"]) == with_c
    for step in (told[0], told[-1]):
        made = model.generate(torch.tensor([step["s"]]), torch.tensor([step["c"]]))
        assert (made - pixels(png)).square().mean().sqrt().item() == pytest.approx(step["error"], rel=1e-3)


def endless(argv: list[str]) -> None:
    """The program with a fit that never ends by itself."""
    fit.STEPS = 10**9
    processes.module("trainer", argv)


def test_a_fit_ends_with_its_connection_and_with_the_program(tmp_path: Path) -> None:
    """The second would wait for ever for the first; the program for the second."""
    argv = ["explore", SPRITES, "--port", "0", "--no-open", "--names", str(tmp_path / "names.json")]
    running = processes.start(endless, (argv,), tmp_path / "logs")
    server = Server(running, port_of(running))
    latents = server.get("/api/seed/0")
    picture = json.loads(server.post("/api/picture", image(server, latents)))["picture"]
    for _ in range(2):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/api/fit", json.dumps({**latents, "picture": picture, "with_c": True}))
        assert json.loads(connection.getresponse().readline())["step"] == 0
        connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/api/fit", json.dumps({**latents, "picture": picture, "with_c": True}))
    assert json.loads(connection.getresponse().readline())["step"] == 0
    running.kill(2)
    assert running.wait(20) == 0, running.err
    assert running.err == ""


def test_a_request_that_a_newer_one_has_overtaken_is_dropped(sprites: Server) -> None:
    latents = sprites.get("/api/seed/1")
    assert sprites.post("/api/image", {**latents, "page": "a", "number": 7})
    assert "newer" in sprites.refused("/api/image", {**latents, "page": "a", "number": 6}, 409)
    assert sprites.post("/api/image", {**latents, "page": "b", "number": 1})
    assert sprites.post("/api/image", {**latents, "page": "a", "number": 8})


def test_an_image_of_64_px_takes_less_than_a_tenth_of_a_second(faces: Server) -> None:
    """The fastest of many: other programs share the cores."""
    latents, seconds = faces.get("/api/seed/2"), []
    for _ in range(20):
        begun = time.perf_counter()
        image(faces, latents)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.1


def test_a_saved_code_gives_the_same_image_again(faces: Server) -> None:
    latents = faces.get(f"/api/seed/{SEED}")
    latents["c"][3] = 0.1  # no number of 32 bits
    before = image(faces, latents)
    saved = faces.post("/api/save", {**latents, "s_seed": SEED, "c_seed": None})
    content = json.loads(saved)
    assert (content["model"], content["s_seed"], content["c_seed"]) == ("faces-64-idgan", SEED, None)
    loaded = json.loads(faces.post("/api/load", saved))
    assert (loaded["s_seed"], loaded["c_seed"], loaded["remark"]) == (SEED, None, "")
    assert image(faces, loaded) == before
    again = trainer.load(FACES).generate(torch.tensor([content["s"]]), torch.tensor([content["c"]]))
    assert torch.equal((again * 255).round() / 255, pixels(before))


def test_a_code_of_another_model_is_refused_or_said_to_be_one(faces: Server, sprites: Server) -> None:
    saved = json.loads(faces.post("/api/save", faces.get("/api/seed/0")))
    assert "the model's has 10" in sprites.refused("/api/load", saved | {"s": []})
    other = json.loads(faces.post("/api/load", saved | {"weights_sha256": "0", "model": "mine"}))
    assert "another model, mine" in other["remark"]
    for wrong, words in (
        ({}, "no code that was saved here"),
        ([], "no code that was saved here"),
        (b"\x89PNG", "no code that was saved here"),
        (saved | {"format": 2}, "format 2"),
        (saved | {"c": [float("nan")] * 20}, "between -100 and 100"),
        (saved | {"c": ["1"] * 20}, "no list of numbers"),
        (saved | {"s_seed": -1}, "no seed"),
        (saved | {"names": {"c1": 3}}, "no code that was saved here"),
    ):
        assert words in faces.refused("/api/load", wrong)


def test_what_is_no_picture_or_too_large_gets_a_message(faces: Server) -> None:
    assert "not a readable image" in faces.refused("/api/picture", b"no image at all")
    assert "not a readable image" in faces.refused("/api/picture", b"")
    assert "larger than 20 MB" in faces.refused("/api/picture", b"\0" * (20 * 2**20 + 1), 413)
    assert "upload it again" in faces.refused("/api/fit", {**faces.get("/api/seed/0"), "picture": "gone"})


def test_requests_that_are_none_get_a_message(faces: Server) -> None:
    assert "no JSON object" in faces.refused("/api/image", b"[")
    assert "no list of numbers" in faces.refused("/api/image", {})
    assert "has 1 numbers, the model's has 32" in faces.refused("/api/image", {"s": [0.0], "c": [0.0]})
    latents = faces.get("/api/seed/0")
    assert "page:" in faces.refused("/api/image", {**latents, "page": 3, "number": 0})
    assert "no smaller images" in faces.refused("/api/preview", latents)
    for path in ("/api/nothing", "/../serve.py", "/serve.py", "/api/seed/x"):
        assert faces.ask("GET", path)[0] in (400, 404)


def test_names_are_kept_in_the_export_and_found_again(tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    for file in Path(SPRITES).iterdir():
        (export / file.name).symlink_to(file.resolve())
    file = export / "latent_names.json"
    with exploring(export, tmp_path, "--names", file) as server:
        server.post("/api/names", {"latent": "c3", "name": "  shape  of it "})
        server.post("/api/names", {"latent": "c4", "name": "x"})
        server.post("/api/names", {"latent": "c4", "name": ""})
        assert "no latent" in server.refused("/api/names", {"latent": "c99", "name": "x"})
        assert "at most 40" in server.refused("/api/names", {"latent": "c1", "name": "x" * 41})
        saved = server.post("/api/save", server.get("/api/seed/0"))
    assert json.loads(file.read_bytes()) == json.loads(saved)["names"] == {"c3": "shape of it"}
    running = processes.command("trainer", ["explore", export, "--port", "0", "--no-open"], tmp_path / "logs")
    server = Server(running, port_of(running))
    named = {slider["latent"]: slider["name"] for slider in server.get("/api/model")["sliders"] if slider["name"]}
    assert named == {"c3": "shape of it"}
    running.kill(15)
    assert running.wait(20) == 0


def test_names_that_cannot_be_written_are_kept_for_now(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with exploring(STAGE_1, tmp_path, "--names", tmp_path / "file" / "names.json") as server:
        message = server.refused("/api/names", {"latent": "c1", "name": "height"})
        assert str(tmp_path / "file" / "names.json") in message
        assert "--names FILE" in message
        assert [each["name"] for each in server.get("/api/model")["sliders"] if each["latent"] == "c1"] == ["height"]
        assert image(server, server.get("/api/seed/0"))
