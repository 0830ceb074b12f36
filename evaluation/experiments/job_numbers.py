"""The numbers of a job, by the table's columns, from the records of its measurements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evaluation import measure

COLUMNS = {
    "FID": "of the run's own images, in stage 1 of the VAE's decodings, codes as in training",
    "FID, prior": "the same with c ~ N(0, I), as the authors' evaluation draws them",
    "FID of the VAE": "of the decodings of the codes, where a generator has a VAE",
    "precision": "share of the images that lie among the reals",
    "recall": "share of the reals that lie among the images",
    "fidelity": "share of images that are faithful sprites (IoU >= 0.8)",
    "FVM": "FactorVAE metric of the encoder, train accuracy",
    "MIG": "mutual information gap of the encoder",
    "R2 x": "how well x of a source is found in the image made from its code",
    "R2 y": "likewise y",
    "R2 scale": "likewise scale",
    "shape": "likewise, how often the sprite's shape is the source's",
    "R, nats": "what an image tells of its code: R_ID, of InfoGAN R_Info",
}
FORMATS = {"R, nats": ".2f"}
FORMATS |= dict.fromkeys(("FID", "FID, prior", "FID of the VAE"), ".3g") | dict.fromkeys(("fidelity", "shape"), ".1%")


def numbers(result: dict[str, Any]) -> dict[str, float]:
    """Return what a job's records say, by column. result: the content of its file."""
    found: dict[str, float] = {}
    stage = result["job"]["training"][1]
    for record in result["records"]:
        read = _OF.get(record["command"])
        found |= dict(read(record, "gan" if stage == "gan" else "vae")) if read else {}
    return found


def protocols(result: dict[str, Any]) -> Iterator[str]:
    """Yield how a job was measured: what must be equal for numbers to compare."""
    for record in result["records"]:
        if record["command"] in ("fid", "paper"):
            against = record["kinds"] if record["command"] == "fid" else record
            yield (
                f"FID {record['protocol']} {record['extractor'][:12]}, {record['samples']:,} images against "
                f"{against['reference_count']:,}, evaluation seed {record['seed']}"
            )
        scores = record if record["command"] == "disentanglement" else record.get("disentanglement")
        if scores:
            yield f"FVM {scores['fvm']['protocol']}, MIG {scores['mig']['protocol']}"
        if record["command"] == "alignment":
            yield f"alignment {record['extractor'][:12]}, {record['samples']:,} sources"


def system_of(result: dict[str, Any]) -> str | None:
    """Return the paper's name of a job's system, where it was measured."""
    return next((str(record["system"]) for record in result["records"] if "system" in record), None)


Numbers = Iterator[tuple[str, float]]


def _of_fid(record: dict[str, Any], kind: str) -> Numbers:
    name = "FID, prior" if record["codes"] == "prior" and record["system"] != "InfoGAN" else "FID"
    kinds = record["kinds"]
    if kind in kinds:
        yield from _of_images(kinds[kind], name)
    if kind != "vae" and "vae" in kinds:
        yield "FID of the VAE", kinds["vae"]["fid"]


def _of_images(found: dict[str, Any], name: str) -> Numbers:
    yield name, found["fid"]
    if name == "FID":
        yield from ((key, found[key]) for key in ("precision", "recall", "fidelity") if found.get(key) is not None)


def _of_paper(record: dict[str, Any], kind: str) -> Numbers:
    *others, own = record["fid"].items()
    yield from _of_images(own[1], "FID")
    yield from (("FID, prior", found["fid"]) for codes, found in others if codes == "prior")
    if record["disentanglement"]:
        yield from _of_encoder(record["disentanglement"], kind)
    if record["information"]:
        yield "R, nats", record["information"]["kinds"][kind]["nats"]


def _of_encoder(record: dict[str, Any], kind: str) -> Numbers:
    yield "FVM", record["fvm"]["train_accuracy"]
    yield "MIG", record["mig"]["score"]


def _of_alignment(record: dict[str, Any], kind: str) -> Numbers:
    r2, accuracy = measure.r2_of(record["kinds"][kind]), measure.accuracy_of(record["kinds"][kind])
    yield from ((f"R2 {name}", r2[name]) for name in ("x", "y", "scale"))
    if "shape" in accuracy:
        yield "shape", accuracy["shape"]
    if "information" in record:
        yield "R, nats", record["information"]["kinds"][kind]["nats"]


_OF = {"fid": _of_fid, "paper": _of_paper, "disentanglement": _of_encoder, "alignment": _of_alignment}
"""What the commands of evaluation say of a job; records of others are kept, and have no column."""
