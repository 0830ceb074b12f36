"""RUN/report/index.html: one page that needs no other file, from what was measured so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_shards.format.manifest import making_command
from evaluation import measure
from evaluation.factors import control, latents
from evaluation.factors.latents import BASES
from evaluation.fid.table_rows import COLUMNS, reals_of, row
from evaluation.inputs.images import own_kind
from evaluation.inputs.results import Results
from evaluation.inputs.run import Run
from evaluation.records import measurements
from trainer.config.feature_networks import SHIPPED_NETWORKS
from trainer.jobs.exit_file import read_command
from trainer.pictures.walks import TRAVERSAL_STEPS
from trainer.reporting.stats_file import read_stats

from . import history
from .charts import curves
from .page import NOTHING, figures, heading, image, preformatted, publish_page, section, table, wide

Record = dict[str, Any] | None


def _names(run: Run) -> dict[str, str]:
    """Return the names of the kinds of images for a reader."""
    return {
        "reals": "reals (others than the reference)",
        "gan": run.config.system,
        "vae": "decodings of its VAE" if run.generator is not None else f"decodings of this {run.config.system}",
        "untrained": "untrained generator",
    }


def _newest(run: Run, command: str) -> dict[str, Any] | None:
    """Return the newest record of a command on the page's step and average; see `measurements.latest`."""
    return measurements.latest(run.results, command, run.step.name, run.average.get("ema"))


def _fid(run: Run) -> dict[str, Any] | None:
    """Return the FID record of the run's own images on the most samples.

    A measurement of few samples, or of reals alone, does not take its place.
    """
    kind = own_kind(run)

    def rank(record: dict[str, Any]) -> int:
        """Return the number of samples of the run's own images."""
        return int(record["samples"]) if kind in record["kinds"] else 0

    return measurements.latest(run.results, "fid", run.step.name, run.average.get("ema"), rank)


def _drawn(run: Run) -> dict[str, Any] | None:
    """Return the record of the figures on this page; those of older steps and other averages lie in other folders."""
    folder = _drawn_folder(run).name
    records = [r for r in measurements.every(run.results, "figures") if Path(r["files"][0]).parent.name == folder]
    return records[-1] if records else None


def _drawn_folder(run: Run) -> Path:
    """Return the folder of the run's figures: the new one of --out, where figures were drawn there."""
    folder = measurements.figures_folder(run.results)
    return folder if folder.is_dir() else measurements.figures_folder(Results(run.path))


def write(run: Run, out: Path) -> Path:
    """Write OUT/index.html from the run's records, those of its newest checkpoint first, figures and statistics."""
    fid = _fid(run)
    parts = [
        _head(run),
        _targets(fid, _newest(run, "latents"), _newest(run, "control")),
        history.settings(run),
        _quality(run, fid),
        history.fid_curve(run),
        _samples(run, _drawn(run)),
        history.samples_over_time(run),
        _zoom(run),
        _figure(run, "interpolation.webp", "Interpolation", "Walks from one random code and s to the next, and back."),
        _traversals(run),
        _movement(run, _newest(run, "latents"), fid),
        _figure(
            run,
            "code_and_nuisance.png",
            "c against s",
            "Rows share c, columns share s (c1, s1, ... are whole codes and vectors here); where there is a VAE, its "
            "decoding of c is first.",
        ),
        _control(run, _newest(run, "control"), fid),
        _disentanglement(run, _newest(run, "disentanglement")),
        _alignment(run, _newest(run, "alignment"), fid),
        _curves(run),
        history.cost(run),
        _commands(run),
    ]
    return publish_page(out / "index.html", str(run.path), parts)


def _head(run: Run) -> Markup:
    manifest, data = run.data.main.manifest, run.config.data
    painting = "" if run.data.painting is None else f", painting: {run.data.painting.source}"
    summary = (
        f"{manifest.data_set} ({data.variant}{painting}), {manifest.count:,} images; "
        f"{run.images_seen / 1000:,.1f} kimg seen; s {run.s_dim}, c {run.c_dim}; "
        f"seed {run.config.seed}; checkpoint {run.step.name}"
    )
    summary += f"; average {run.average['ema']}" if run.average else ""
    return heading(f"{run.config.system}: {run.path}", summary)


def _origin(run: Run, record: dict[str, Any], done: str = "Measured") -> str:
    """Say which weights a record is about."""
    same = "" if record["step"] == run.step.name else ", not the newest checkpoint"
    return f"{done} at {record['images_seen'] / 1000:,.1f} kimg{same}."


def _network(record: dict[str, Any], fid: Record) -> str:
    """Name the network that read the images of a record, and say where FID's on this page is another version of it.

    That of FID may be one of another kind, such as Inception: then there is nothing to compare.
    """
    named = f"Network {record['extractor'][:12]}."
    if fid is None or fid["protocol"] not in SHIPPED_NETWORKS.values() or fid["extractor"] == record["extractor"]:
        return named
    return (
        f"{named} FID on this page is by another version of it, {fid['extractor'][:12]}: numbers of the two do not "
        "compare; measure the older one again."
    )


Target = tuple[str, str, bool]  # what a good run shows, this run's figures, whether they are good enough


def _targets(fid: Record, moved: Record, shares: Record) -> Markup:
    """Compare the run with what a good run shows."""
    targets = _fid_targets(fid["kinds"]) if fid else []
    if moved:
        clear = [f"{moved['latents'][entry['latent']]} {entry['factor']}" for entry in moved["clear"]]
        targets.append(("at least two latents move one factor alone", ", ".join(clear) or "none", len(clear) >= 2))
    if shares:
        of_c = [shares["factors"][name]["c"] or 0.0 for name in ("x", "y")]
        both = " and ".join(f"{share:.1%}" for share in of_c)
        targets.append(("c controls at least 80 % of x and of y", both, min(of_c) >= 0.8))
    rows = [(target, measured, "yes" if reached else "not yet") for target, measured, reached in targets]
    return section("Targets", table(("target", "measured here", "reached"), rows)) if rows else NOTHING


def _fid_targets(kinds: dict[str, Any]) -> list[Target]:
    """Compare FID and fidelity with the untrained generator's, the VAE's and the reals'. kinds: of a FID record."""
    targets: list[Target] = []
    if {"gan", "vae", "untrained"} <= kinds.keys():
        gan, vae, untrained = (kinds[name] for name in ("gan", "vae", "untrained"))
        ratio = untrained["fid"] / gan["fid"]
        targets.append(("FID at least 5 times below the untrained generator's", f"{ratio:.1f} times", ratio >= 5))
        both = f"{gan['fid']:.3g} and {vae['fid']:.3g}"
        targets.append(("FID below that of the VAE's decodings", both, gan["fid"] < vae["fid"]))
        if gan["fidelity"] is not None:
            both = f"{gan['fidelity']:.1%} and {vae['fidelity']:.1%}"
            reached = gan["fidelity"] >= vae["fidelity"]
            targets.append(("fidelity not below that of the VAE's decodings", both, reached))
    if kinds.get("reals", {}).get("fidelity") is not None:
        share = kinds["reals"]["fidelity"]
        name = "fidelity of reals at least 95 % (else the measure is broken)"
        targets.append((name, f"{share:.1%}", share >= 0.95))
    return targets


def _quality(run: Run, record: dict[str, Any] | None) -> Markup:
    if record is None:
        return NOTHING
    kinds, names = record["kinds"], _names(run)
    if "reference_data" in kinds:
        names["reals"] = "reals of the run"
    rows = [(names[kind], *row(kinds[kind])) for kind in names if kind in kinds]
    protocol = record["protocol"]
    note = (
        f"FID against {reals_of(kinds)}, protocol {protocol}, network {record['extractor'][:12]}: "
        f"comparable only with numbers of the same protocol, network and counts. Codes: {record['codes']}. "
    )
    if any(kinds[kind].get("fidelity") is not None for kind in names if kind in kinds):
        note += (
            "Fidelity is the share of images whose mask overlaps (IoU >= 0.8) the sprite that the network's own "
            "prediction draws. "
        )
    if any(kinds[kind].get("spectrum") is not None for kind in names if kind in kinds):
        note += (
            "Spectrum and detail are log10 of the power that images have over that of reals of their size, where it is "
            "farthest from 0: below 0 sharpness is missing, above 0 there is too much. "
        )
    return section("Quality", table(("images", *COLUMNS), rows), note + _origin(run, record))


def _samples(run: Run, record: dict[str, Any] | None) -> Markup:
    captions = {"posterior": "Samples, one for each real's code", "prior": "Samples, codes from the prior"}
    caption = captions.get(record["codes"] if record else "posterior", "Samples")
    folder = _drawn_folder(run)
    pair = [
        (image(folder / name), text)
        for name, text in (("reals.png", "Reals"), ("samples.png", caption))
        if (folder / name).is_file()
    ]
    note = _origin(run, record, "Drawn") if record else ""
    return section("Reals and samples", figures("pair", pair), note) if pair else NOTHING


def _traversals(run: Run) -> Markup:
    both = run.generator is not None and run.vae is not None
    note = f"linspace(-3, 3, {TRAVERSAL_STEPS}) along each latent from one base"
    note += ", sorted by KL" if run.q is not None else ""
    note += ": the VAE's decoding above, the generator's image below." if both else "."
    return _figure(run, "traversals.png", "Traversals", note)


def _zoom(run: Run) -> Markup:
    note = "Each whole, then half of the side of the square before, around the most detail; the last enlarges pixels."
    return _figure(run, "zoom.png", "Detail", note)


def _figure(run: Run, name: str, title: str, note: str) -> Markup:
    path, record = _drawn_folder(run) / name, _drawn(run)
    note += f" {_origin(run, record, 'Drawn')}" if record else ""
    return section(title, wide(image(path)), note) if path.is_file() else NOTHING


def _movement(run: Run, record: Record, fid: Record) -> Markup:
    if record is None:
        return NOTHING
    note = (
        "The share of its full range that the network of the data set sees each factor move over along each latent, "
        f"mean of {BASES} codes. The last column names the factor that moves at least twice as far as the others, "
        f"and at least 20 %. {latents.HELD if 'means_r2' in record else ''} {_origin(run, record)} "
        f"{_network(record, fid)}"
    )
    return section("What each latent moves", table(latents.columns(record), latents.table_rows(record)), note)


def _control(run: Run, record: Record, fid: Record) -> Markup:
    if record is None:
        return NOTHING
    codes, vectors = record["grid"]
    note = (
        f"The share of each factor's variance, over {codes} codes x {vectors} nuisance vectors, that c and s control, "
        f"each alone; the rest they decide together. {_with_s(record)}"
        f"A factor that neither controls has about {1 / codes:.1%} in both. R2 of q's means is that of a linear "
        "regression on reals: what c holds of the factor. "
        f"Codes: {record['codes']}. {_origin(run, record)} {_network(record, fid)}"
    )
    return section("What c controls, and what s", table(control.COLUMNS, control.table_rows(record)), note)


def _with_s(record: dict[str, Any]) -> str:
    """Say which latents of c count as s."""
    names = record.get("collapsed", [])
    return f"{', '.join(names)} of c are collapsed and count as s. " if names else ""


def _disentanglement(run: Run, record: dict[str, Any] | None) -> Markup:
    if record is None:
        return NOTHING
    return section(
        "Disentanglement",
        table(("metric", "protocol", "value"), measure.disentanglement_rows(record)),
        f"Of {record['encoder']}. {_origin(run, record)}",
    )


def _alignment(run: Run, record: Record, fid: Record) -> Markup:
    if record is None:
        return NOTHING
    rows = [(_names(run)[kind], *measure.alignment_row(scores)) for kind, scores in record["kinds"].items()]
    told = measure.information_text(record)
    note = (
        f"How well the factors of {record['samples']:,} source images are found, by the network of the data set, in "
        "what is made from their codes: R^2 of values, and how often the true class is found; the sources themselves "
        "are the ceiling. "
        f"Codes are posterior means of {record['encoder']}. {_origin(run, record)} {_network(record, fid)}"
        + (f" How much the images tell of codes drawn as in training, {told}." if told else "")
    )
    return section("Code alignment", table(("images", *measure.alignment_columns(record)), rows), note)


def _curves(run: Run) -> Markup:
    stages = [("stage 2" if run.generator is not None else "stage 1", run.path)]
    vae = getattr(run.config, "vae", None)
    if vae is not None and Path(vae).is_dir():
        stages.insert(0, ("stage 1", Path(vae)))
    charts = [_curve(name, read_stats(path)) for name, path in stages if read_stats(path)]
    return section("Training", figures("curves", charts)) if charts else NOTHING


_TIMING = (
    "images_seen",
    "seconds_per_kimg",
    "eta_seconds",
    "data_wait",
    "memory_gb",
    "processes",
    "resolution",
    "alpha",
    "partial",
)


def _curve(title: str, ticks: list[dict[str, Any]]) -> tuple[Markup, str]:
    """Draw every term of a stage. Returns the chart and its caption."""
    terms = list(dict.fromkeys(name for tick in ticks for name in tick if name not in _TIMING))
    kimg, seconds = ticks[-1]["images_seen"] / 1000, ticks[-1]["seconds_per_kimg"]
    caption = f"{title}: every term over {kimg:,.0f} kimg, {seconds:.2f} s/kimg at the end"
    return curves(title, ticks, terms), caption


def _commands(run: Run) -> Markup:
    lines = [making_command(run.data.main.manifest, run.config.data.path)]
    vae = getattr(run.config, "vae", None)
    lines += [read_command(Path(path)) for path in (vae, run.path) if path is not None]
    names = ("disentanglement", "alignment", "latents", "control")
    records = [_fid(run), *(_newest(run, name) for name in names), _drawn(run)]
    lines += [record["argv"] for record in records if record]
    text = "\n".join(dict.fromkeys(line for line in lines if line))
    return section("The commands that made this page", preformatted(text))
