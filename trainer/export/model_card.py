"""README.md of an export: what the model is, how it was trained, what was measured of it, and what its licence asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.json_lines import read_lines
from trainer.config import file_names
from trainer.reporting.cost import spent
from trainer.reporting.stats_file import read_stats

from .front_matter import with_front_matter

Record = dict[str, Any]
Rows = list[list[str]]
FID_COLUMNS = {  # of a record: the head of the column, and how many decimals
    "fid": ("FID", 3),
    "kid": ("KID", 5),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "density": ("density", 3),
    "coverage": ("coverage", 3),
    "fidelity": ("faithful sprites", 3),
    "spectrum": ("spectrum", 3),
    "detail": ("detail", 3),
}
KINDS = {"gan": "the generator", "vae": "decodings of its VAE", "reals": "reals", "untrained": "untrained"}


def records_of(run: Path, step: str, average: str | None) -> dict[str, Record]:
    """Return the newest record of each command about a checkpoint and an average, by command."""
    found = {}
    for command in SECTIONS:
        for record in read_lines(run / "evaluation" / f"{command}.jsonl"):
            if record["step"] == step and record.get("ema") == average:
                found[command] = record
    return found


def hours(run: Path, images_seen: int, processes: int) -> float | None:
    """Return the hours that the training took up to a checkpoint; None where its ticks are gone."""
    ticks = [tick for tick in read_stats(run) if tick["images_seen"] <= images_seen]
    return spent(ticks, processes).seconds / 3600 if ticks else None


def model_card(name: str, metadata: Record, parameters: dict[str, int], records: dict[str, Record]) -> str:
    """Return the card as Markdown.

    name: of the export's folder; metadata: the content of export.json; parameters: counts by network; records: see
    `records_of`.
    """
    origin = metadata["origin"]
    sections = [
        f"# {name}\n\n{_what(metadata)}",
        "## Use\n\n```python\nimport trainer\n\n"
        f'model = trainer.load("{name}")  # the path of this folder\n{_use(metadata)}\n```',
        _onnx(metadata) if "onnx" in origin else "",
        "## Training\n\n" + _table(["", ""], _facts(metadata, parameters)),
        _commands(origin.get("commands", [])),
        *(_measured(command, record) for command, record in records.items()),
        "" if records else "## Measured\n\nNothing has been measured of this checkpoint.",
        _licence(origin),
        _limits(metadata),
    ]
    return with_front_matter("\n\n".join(section for section in sections if section) + "\n", metadata)


CHECK_TITLE, ONNX_TITLE = "## Check", "## ONNX"
DRAW_ONE = """import numpy
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{file}")
draw = numpy.random.default_rng(0).standard_normal
latents = {{each.name: draw((1, each.shape[1]), numpy.float32) for each in session.get_inputs()}}  # any number of rows
(images,) = session.run(["images"], latents)
Image.fromarray((images[0].transpose(1, 2, 0) * 255).round().astype("uint8").squeeze()).save("image.png")"""


def with_check(card: str, name: str, record: Record) -> str:
    """Return a card with the section on what its first images measure, in place of one that it has, before the licence.

    record: the content of check.json, see evaluation/exports/check.py.
    """
    return _with_section(card, CHECK_TITLE, _check(name, record), before="## Licence")


def with_onnx(card: str, metadata: Record) -> str:
    """Return a card with the section on ONNX files, in place of one that it has, after that on use.

    metadata: the content of export.json, with what it says of them.
    """
    return _with_section(card, ONNX_TITLE, _onnx(metadata), before="## Training")


def _with_section(card: str, title: str, section: str, before: str) -> str:
    """Return a card with a section in place of those of its title, before the one that begins so, or at the end."""
    sections = [part for part in re.split(r"\n\n(?=## )", card.rstrip("\n")) if not part.startswith(title)]
    at = next((k for k, part in enumerate(sections) if part.startswith(before)), len(sections))
    return "\n\n".join([*sections[:at], section, *sections[at:]]) + "\n"


def _check(name: str, record: Record) -> str:
    """Figures of few images, to compare with those of another machine."""
    rows = []
    for kind, figures in record["kinds"].items():
        rows.append([KINDS[kind], "FID", _number(figures["fid"], 3)])
        if "fidelity" in figures:
            rows.append([KINDS[kind], "faithful sprites", _number(figures["fidelity"], 3)])
        shares = figures.get("follows", {}).items()
        rows += [[KINDS[kind], f"R^2 of {n} to that of the decodings", _number(v, 3)] for n, v in shares]
    note = (
        f"`python -m evaluation check pretrained/{name}` measures the first {record['images']} images again (seed "
        f"{record['seed']}, network {record['extractor'][:12]}, {record['reference_count']:,} reals) and compares. So "
        "few images give another FID than many: for no other use."
    )
    return f"{CHECK_TITLE}\n\n{note}\n\n{_table(['images', 'figure', 'value'], rows)}"


def _what(metadata: Record) -> str:
    origin, generator = metadata["origin"], metadata["network"]
    data = origin.get("data_set", "a data set that its config names")
    variant = "" if origin["variant"] == "plain" else f" ({origin['variant']})"
    made = f"{metadata['resolution']} px" + (f", network {generator}" if generator else "")
    code = f"; code c of {metadata['c_dim']} dimensions" if metadata["c_dim"] else ""
    nuisance = f", nuisance s of {metadata['s_dim']}" if metadata["s_dim"] else ""
    told = "; ".join(f"{label['name']} ({', '.join(label['classes'])})" for label in metadata.get("labels") or ())
    labels = f" It is told {told}." if told else ""
    return f"{origin['system']} on {data}{variant}: {made}{code}{nuisance}.{labels}"


def _use(metadata: Record) -> str:
    side, channels = metadata["resolution"], metadata["channels"]
    lines = [f"images = model.sample(16)  # float32 [16, {channels}, {side}, {side}] in [0, 1]"]
    if labels := metadata.get("labels"):
        chosen = f"{labels[0]['name']}={labels[0]['classes'][0]}"
        lines.append(f'of_one_class = model.sample(16, classes="{chosen}")')
    if metadata["encoder"] != "none":
        lines.append("mean, logvar = model.encode(images)  # of q(c|x)")
    if metadata["encoder"] == "vae":
        lines.append("decoded = model.decode(mean)  # by the VAE, 64 px")
    if metadata["network"] and metadata["c_dim"]:
        c = "model.codes(16)" if metadata["encoder"] == "none" else "mean"
        lines.append(f"again = model.generate(model.nuisance(16), {c})  # G(s, c)")
    return "\n".join(lines)


def _onnx(metadata: Record) -> str:
    """What the ONNX files take and give, and the code that draws an image without this program and without torch."""
    side, channels, record = metadata["resolution"], metadata["channels"], metadata["origin"]["onnx"]
    latents = [f"`{name}` [batch, {size}]" for name, size in _latents(metadata)]
    image = f"`images` float32 [batch, {channels}, {side}, {side}] in [0, 1]"
    says = {
        file_names.ONNX_GENERATOR: f"maps {' and '.join(latents)} to {image}",
        file_names.ONNX_ENCODER: f"maps {image} to `mean` and `logvar` [batch, {metadata['c_dim']}] of q(c|x)",
        file_names.ONNX_DECODER: f"maps `c` [batch, {metadata['c_dim']}] to `images` of 64 px, by the VAE",
    }
    lines = [f"* `{name}` {says[name]}." for name in record["files"]] or ["No part of it could be converted."]
    if "differences" in record:
        largest = max(record["differences"].values())
        lines.append(f"* Their results are those of torch to {largest:.1g}, in {record['compared_with']}.")
    drawing = next((n for n in (file_names.ONNX_GENERATOR, file_names.ONNX_DECODER) if n in record["files"]), None)
    if drawing is None:
        return f"{ONNX_TITLE}\n\n" + "\n".join(lines)
    note = "One image of latents from N(0, I), without torch"
    if metadata["codes"] == "posterior":
        note += " (codes as in training: mean + exp(logvar / 2) * noise, of a row of `bank.safetensors`)"
    if metadata.get("labels"):
        note += " (`y`, which should be one-hot for each label, is random here too)"
    code = DRAW_ONE.format(file=drawing)
    return f"{ONNX_TITLE}\n\n" + "\n".join(lines) + f"\n\n{note}:\n\n```python\n{code}\n```"


def _latents(metadata: Record) -> list[tuple[str, int]]:
    """Return name and size of what a generator is given, without what it lacks."""
    y_dim = sum(len(label["classes"]) for label in metadata.get("labels") or ())
    sizes = {"s": metadata["s_dim"], "y": y_dim, "c": metadata["c_dim"]}
    return [(name, size) for name, size in sizes.items() if size]


def _facts(metadata: Record, parameters: dict[str, int]) -> Rows:
    origin = metadata["origin"]
    took, hardware = origin.get("hours"), origin.get("hardware", "hardware not recorded")
    images = f"{origin['images']:,} images, " if "images" in origin else ""
    versions = ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items())
    identity = origin["inputs"].get("data")
    data = f"{origin.get('data_set', 'see the config')}, {images}hash {str(identity)[:12]}"
    return [
        ["data", data if identity else "not recorded"],
        ["images seen", _images_seen(origin)],
        ["hours", "not recorded" if took is None else f"{took:.2f} ({hardware}, {origin['processes']} process(es))"],
        ["average", origin.get("ema", "none")],
        ["parameters", ", ".join(f"{network} {count:,}" for network, count in parameters.items())],
        ["versions", versions or "not recorded"],
    ]


def _images_seen(origin: Record) -> str:
    seen, iterations = origin["images_seen"], f"{origin['iteration']:,} iterations"
    if "imported" in origin:
        return f"{iterations}; {seen:,} at the config's batch_size; seed not recorded"
    return f"{seen:,} ({iterations}), seed {origin['seed']}"


def _commands(commands: list[str]) -> str:
    if not commands:
        return ""
    return "The commands, with the whole config in `config.yaml`:\n\n```bash\n" + "\n".join(commands) + "\n```"


def _measured(command: str, record: Record) -> str:
    title, columns_and_rows = SECTIONS[command]
    heads, rows = columns_and_rows(record)
    if not rows:  # an older record, which does not have what the section shows
        return ""
    note = f"`{record['argv']}`{_conditions(record)}"
    return f"## {title}\n\n{note}\n\n{_table(heads, rows)}"


def _conditions(record: Record) -> str:
    """Protocol, counts, seed and the hash of the network that measures."""
    parts = [f"protocol {record['protocol']}"] if "protocol" in record else []
    parts += [f"{record['samples']:,} images"] if "samples" in record else []
    other = record.get("kinds", {}).get("reference_data")
    parts += [f"against images of another set ({other[:12]})"] if other else []
    parts += [f"network {record['extractor'][:12]}"] if record.get("extractor") else []
    parts += [f"codes: {record['codes']}"] if "codes" in record else []
    return ": " + ", ".join([*parts, f"seed {record['seed']}"])


def _fid(record: Record) -> tuple[list[str], Rows]:
    kinds = {kind: numbers for kind, numbers in record["kinds"].items() if isinstance(numbers, dict)}
    shown = [key for key in FID_COLUMNS if any(numbers.get(key) is not None for numbers in kinds.values())]
    rows = [
        [KINDS.get(kind, kind), *(_number(numbers.get(key), FID_COLUMNS[key][1]) for key in shown)]
        for kind, numbers in kinds.items()
    ]
    return ["images", *(FID_COLUMNS[key][0] for key in shown)], rows


def _alignment(record: Record) -> tuple[list[str], Rows]:
    """A row a factor: R^2 of values, then accuracies of classes; a column a kind of images."""
    kinds = record["kinds"]
    first = next(iter(kinds.values()))
    nested = {"R^2 of": "r2", "accuracy of": "accuracy", "faithful sprites of a": "faithful", "read as a": "shapes"}
    rows = [
        [f"{word} {factor}", *(_number(scores[group][factor], 3) for scores in kinds.values())]
        for word, group in nested.items()
        for factor in first.get(group, {})
    ]
    of_sprites = [name for name in first if isinstance(first[name], float) and name != "shape"]  # beside its accuracies
    rows += [[f"R^2 of {name}", *(_number(scores[name], 3) for scores in kinds.values())] for name in of_sprites]
    return ["", *(KINDS.get(kind, kind) for kind in kinds)], rows


def _means(record: Record) -> tuple[list[str], Rows]:
    """Of a record of `latents`; older ones have no R^2."""
    rows = [[name, _number(value, 3)] for name, value in record.get("means_r2", {}).items()]
    return ["what is read in reals", "R^2 of q's means, by boosted trees"], rows


def _control(record: Record) -> tuple[list[str], Rows]:
    held, names = record.get("means_r2", {}), record.get("collapsed", [])
    rows = [
        [name, _number(held.get(name), 3), _number(each["c"], 3), _number(each["s"], 3)]
        for name, each in record["factors"].items()
    ]
    counted = f" (with the collapsed {', '.join(names)})" if names else ""
    return ["share of the variance of", "R^2 of q's means", "c", f"s{counted}"], rows


def _disentanglement(record: Record) -> tuple[list[str], Rows]:
    rows = []
    if "fvm" in record:
        fvm = record["fvm"]
        rows.append(["FactorVAE metric", fvm["protocol"], _number(fvm["train_accuracy"], 3)])
    for key, name in (("mig", "MIG"), ("sap", "SAP"), ("modularity", "modularity")):
        if key in record:
            rows.append([name, record[key]["protocol"], _number(record[key]["score"], 3)])
    for part in ("disentanglement", "completeness", "informativeness") if "dci" in record else ():
        rows.append([f"DCI, {part}", record["dci"]["protocol"], _number(record["dci"][part], 3)])
    r2 = record.get("linear_r2", {"factors": {}})
    rows += [[f"linear R^2 of {n}", r2["protocol"], _number(v, 3)] for n, v in r2["factors"].items() if v is not None]
    return ["metric", "protocol", "value"], rows


SECTIONS: dict[str, tuple[str, Callable[[Record], tuple[list[str], Rows]]]] = {
    "fid": ("FID and sharpness", _fid),
    "alignment": ("Code alignment", _alignment),
    "latents": ("What the code holds", _means),
    "control": ("What c and s control", _control),
    "disentanglement": ("Disentanglement", _disentanglement),
}
"""Title, columns and rows of the sections on measurements, by the command whose newest record they show."""


def _licence(origin: Record) -> str:
    if "imported" in origin:
        return "## Licence\n\nThe weights were trained by other code: their licence is that of whoever trained them."
    notes = "".join(f"\n\n{note}" for note in origin.get("data_notes", []))
    named = " Whoever shows its images must name the artist." if notes else ""
    return f"## Licence\n\nThe weights are under the licence of this project (MIT).{named}{notes}"


def _limits(metadata: Record) -> str:
    data = metadata["origin"].get("data_set", "its training set")
    lines = [
        f"It has seen {data} and nothing else: other images are encoded and drawn as if they were of that set.",
        "Figures above hold for this protocol, these counts and this seed; others are not comparable with them.",
    ]
    if metadata["codes"] == "posterior":
        lines.append(
            "`model.codes` draws from the posteriors of training images in `bank.safetensors`, not of new images."
        )
    return "## Limits\n\n" + "\n".join(f"* {line}" for line in lines)


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _table(heads: list[str], rows: Rows) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
