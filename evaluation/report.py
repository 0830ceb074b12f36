"""RUN/report/index.html: one page that needs no other file, from what was measured so far."""

from __future__ import annotations

import base64
import html
import io
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from data_shards.publish import publish
from trainer.preemption import read_command
from trainer.status import read_stats

from . import records
from .latents import BASES, STEPS
from .run import Run

NAMES = {
    "reals": "reals (others than the reference)",
    "gan": "ID-GAN",
    "vae": "decodings of its VAE",
    "untrained": "untrained generator",
}
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2530; background: #fff; }
body { margin: 0 auto; max-width: 1100px; padding: 24px 16px; }
h1 { font-size: 1.6rem; margin: 0 0 4px; } h2 { font-size: 1.15rem; margin: 36px 0 8px; }
p, figcaption { color: #4a5563; margin: 4px 0 12px; max-width: 75ch; }
figure { margin: 0; } img { max-width: 100%; height: auto; } .pixels { image-rendering: pixelated; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 20px; }
.pair img, .curves img { width: 100%; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 12px; border-bottom: 1px solid #e3e7ec; }
th:first-child, td:first-child { text-align: left; padding-left: 0; } th { font-weight: 600; color: #4a5563; }
pre { background: #f4f6f8; padding: 12px; overflow-x: auto; font-size: 13px; border-radius: 6px; }
code { overflow-wrap: anywhere; }
"""


def write(run: Run, out: Path) -> Path:
    """Write OUT/index.html from the run's newest records, figures and statistics; its path."""
    out.mkdir(parents=True, exist_ok=True)
    parts = [
        _head(run),
        _targets(records.latest(run.path, "fid"), records.latest(run.path, "latents")),
        _quality(run, records.latest(run.path, "fid")),
        _samples(run, records.latest(run.path, "figures")),
        _traversals(run),
        _movement(run, records.latest(run.path, "latents")),
        _figure(
            run,
            "code_and_nuisance.png",
            "c against s",
            "Rows share c, columns share s; the VAE's decoding of c is first.",
        ),
        _disentanglement(run, records.latest(run.path, "disentanglement")),
        _curves(run),
        _commands(run),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(str(run.path))}</title><link rel='icon' href='data:,'>"
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    path = out / "index.html"
    publish(path, page.encode())
    return path


def _head(run: Run) -> str:
    manifest, data = run.data.main.manifest, run.config.data
    painting = "" if run.data.painting is None else f", painting: {run.data.painting.source}"
    facts = (
        f"{manifest.data_set} ({data.variant}{painting}), {manifest.count:,} images; "
        f"{run.images_seen / 1000:,.1f} kimg seen; s {run.s_dim}, c {run.c_dim}; "
        f"seed {run.config.seed}; checkpoint {run.step.name}"
    )
    kind = "ID-GAN" if run.generator is not None else "beta-VAE"
    return f"<h1>{kind}: {html.escape(str(run.path))}</h1><p>{html.escape(facts)}</p>"


def _origin(run: Run, record: dict[str, Any]) -> str:
    """Which weights a record is about."""
    same = "" if record["step"] == run.step.name else ", not the newest checkpoint"
    return f"Measured at {record['images_seen'] / 1000:,.1f} kimg{same}."


def _targets(fid: dict[str, Any] | None, latents: dict[str, Any] | None) -> str:
    """What a good run shows, each with its figures and whether this one does."""
    rows: list[tuple[str, str, bool]] = []
    kinds = fid["kinds"] if fid else {}
    if {"gan", "vae", "untrained"} <= kinds.keys():
        gan, vae, untrained = (kinds[name] for name in ("gan", "vae", "untrained"))
        ratio = untrained["fid"] / gan["fid"]
        rows.append(("FID at least 5 times below the untrained generator's", f"{ratio:.1f} times", ratio >= 5))
        both = f"{gan['fid']:.3g} and {vae['fid']:.3g}"
        rows.append(("FID below that of the VAE's decodings", both, gan["fid"] < vae["fid"]))
        if gan["fidelity"] is not None:
            both = f"{gan['fidelity']:.1%} and {vae['fidelity']:.1%}"
            rows.append(("fidelity not below that of the VAE's decodings", both, gan["fidelity"] >= vae["fidelity"]))
    if kinds.get("reals", {}).get("fidelity") is not None:
        share = kinds["reals"]["fidelity"]
        rows.append(("fidelity of reals at least 95 % (else the measure is broken)", f"{share:.1%}", share >= 0.95))
    if latents:
        clear = [f"c{entry['latent'] + 1} {entry['factor']}" for entry in latents["clear"]]
        rows.append(("at least two latents move x, y or scale alone", ", ".join(clear) or "none", len(clear) >= 2))
    cells = [(what, figure, "yes" if holds else "NO") for what, figure, holds in rows]
    return _section("Targets", _table(("target", "measured here", "holds"), cells)) if cells else ""


def _quality(run: Run, record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    kinds = {name: m for name, m in record["kinds"].items() if name in NAMES}
    rows = [
        (
            NAMES[name],
            f"{m['fid']:.3g}",
            f"{m['count']:,}",
            "not defined" if m["fidelity"] is None else f"{m['fidelity']:.1%}",
        )
        for name, m in kinds.items()
    ]
    note = (
        f"FID against {record['kinds']['reference_count']:,} reals with the features of the shipped factor network "
        f"{record['extractor'][:12]}: comparable only with numbers of the same hash. Codes: {record['codes']}. "
        "Fidelity is the share of images whose mask overlaps (IoU >= 0.8) the sprite that the network's own "
        f"prediction draws. {_origin(run, record)}"
    )
    return _section("Quality", _table(("images", "FID", "count", "fidelity"), rows), note)


def _samples(run: Run, record: dict[str, Any] | None) -> str:
    source = record["codes"] if record else "posterior"
    caption = "Samples, one for each real's code" if source == "posterior" else "Samples, codes from the prior"
    folder = run.path / records.FOLDER / "figures"
    pair = [
        f"<figure>{_image(folder / name)}<figcaption>{text}</figcaption></figure>"
        for name, text in (("reals.png", "Reals"), ("samples.png", caption))
        if (folder / name).is_file()
    ]
    return _section("Reals and samples", f'<div class="pair">{"".join(pair)}</div>') if pair else ""


def _traversals(run: Run) -> str:
    above = (
        "the VAE's decoding above, the generator's image below" if run.generator is not None else "the VAE's decoding"
    )
    note = f"linspace(-3, 3, {STEPS}) along each latent of one code, sorted by KL: {above}."
    return _figure(run, "traversals.png", "Traversals", note)


def _figure(run: Run, name: str, title: str, note: str) -> str:
    path = run.path / records.FOLDER / "figures" / name
    return _section(title, f'<div class="wide">{_image(path)}</div>', note) if path.is_file() else ""


def _movement(run: Run, record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    clear = {entry["latent"]: entry["factor"] for entry in record["clear"]}
    rows = [
        (f"c{j + 1}", *(f"{share:.0%}" for share in row), clear.get(j, ""))
        for j, row in enumerate(record["share_of_range"])
    ]
    note = (
        f"The share of its full range that the factor network sees each factor move over along each latent, mean of "
        f"{BASES} codes. The last column names the factor that moves at least twice as far as the others, "
        f"and at least 20 %. {_origin(run, record)}"
    )
    return _section("What each latent moves", _table(("latent", *record["factors"], "moves alone"), rows), note)


def _disentanglement(run: Run, record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    fvm, mig = record["fvm"], record["mig"]
    rows = [
        ("MIG", mig["protocol"], f"{mig['score']:.3f}"),
        ("FactorVAE metric, train accuracy", fvm["protocol"], f"{fvm['train_accuracy']:.3f}"),
        ("pruned latents", fvm["protocol"], ", ".join(f"c{j + 1}" for j in fvm["pruned"]) or "none"),
    ]
    return _section(
        "Disentanglement",
        _table(("metric", "protocol", "value"), rows),
        f"Of {record['encoder']}. {_origin(run, record)}",
    )


def _curves(run: Run) -> str:
    stages = [("stage 2", run.path)] if run.generator is not None else [("stage 1", run.path)]
    vae = getattr(run.config, "vae", None)
    if vae is not None and Path(vae).is_dir():
        stages.insert(0, ("stage 1", Path(vae)))
    figures = [_curve(name, read_stats(path)) for name, path in stages if read_stats(path)]
    return _section("Training", f'<div class="curves">{"".join(figures)}</div>') if figures else ""


_TIMING = ("images_seen", "seconds_per_kimg", "eta_seconds", "data_wait", "memory_gb", "resolution")


def _curve(title: str, ticks: list[dict[str, Any]]) -> str:
    terms = [name for name in ticks[0] if name not in _TIMING]
    columns = 4
    rows = -(-len(terms) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(11, 2.1 * rows), layout="constrained", squeeze=False)
    for axis, name in zip(axes.flat, terms, strict=False):
        axis.plot([t["images_seen"] / 1000 for t in ticks], [t[name] for t in ticks], color="#2b6cb0", linewidth=1.2)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(terms) :]:
        axis.set_visible(False)
    figure.supxlabel("kimg", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    plt.close(figure)
    picture = base64.b64encode(buffer.getvalue()).decode()
    cost = ticks[-1]["images_seen"] / 1000
    return (
        f'<figure><img alt="{title}" src="data:image/svg+xml;base64,{picture}">'
        f"<figcaption>{title}: every term over {cost:,.0f} kimg, {ticks[-1]['seconds_per_kimg']:.2f} s/kimg at the end"
        "</figcaption></figure>"
    )


def _commands(run: Run) -> str:
    manifest = run.data.main.manifest
    lines: list[str | None] = []
    if manifest.data_set == "dsprites":
        sizes = ",".join(map(str, manifest.resolutions))
        make = ["python", "-m", "data_shards", "make", "dsprites", "--out", str(run.config.data.path)]
        lines.append(shlex.join([*make, "--count", str(manifest.count), "--resolutions", sizes]))
    vae = getattr(run.config, "vae", None)
    lines += [read_command(Path(path)) for path in (vae, run.path) if path is not None]
    for name in ("disentanglement", "fid", "latents", "figures"):
        record = records.latest(run.path, name)
        lines.append(record["argv"] if record else None)
    text = "\n".join(line for line in lines if line)
    return _section("The commands that made this page", f"<pre>{html.escape(text)}</pre>")


def _section(title: str, body: str, note: str = "") -> str:
    return f"<h2>{html.escape(title)}</h2>{f'<p>{html.escape(note)}</p>' if note else ''}{body}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{html.escape(c)}</th>" for c in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img class="pixels" alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">'
