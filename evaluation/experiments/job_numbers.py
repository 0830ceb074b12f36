"""The numbers of a job, by the table's columns, from the records of its measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from evaluation import measure
from evaluation.fid.table_rows import reals_of

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
    "modes": "how many of the 1,000 modes of stacked sprites the images cover",
    "KL, modes": "of the images' modes from the data's, which are alike, in nats",
    "of a mode": "share of images with a clean sprite of the ten in every channel",
    "class": "how often the class that was asked for is found, codes of its own images",
    "class alone": "the same with codes of images of any class",
    "leaks": "how many transforms of the augmentation show in the images",
    "R, nats": "what an image tells of its code: R_ID, of InfoGAN R_Info",
}
FORMATS = {"R, nats": ".2f", "modes": ",.0f", "leaks": ".0f"}
FORMATS |= dict.fromkeys(("FID", "FID, prior", "FID of the VAE"), ".3g")
FORMATS |= dict.fromkeys(("fidelity", "shape", "of a mode", "class", "class alone"), ".1%")


# Of the job's own encoder, or by a detector that is trained for the job; no network of the evaluation sees an image.
OF_NO_NETWORK = ("FVM", "MIG", "R, nats", "leaks")


class Number(NamedTuple):
    """A number of a job. network: sha256 of the network that saw the images, "" where none did; kind: whose it is."""

    value: float
    kind: str
    network: str


def numbers(result: dict[str, Any]) -> dict[str, Number]:
    """Return what a job's records say, by column. result: the content of its file."""
    found: dict[str, Number] = {}
    stage = result["job"]["training"][1]
    for record in result["records"]:
        read = _OF.get(record["command"])
        for column, value in read(record, "gan" if stage == "gan" else "vae") if read else ():
            found[column] = Number(value, *(("", "") if column in OF_NO_NETWORK else _network(record)))
    return found


def _network(record: dict[str, Any]) -> tuple[str, str]:
    return "fid" if record["command"] == "paper" else record["command"], record["extractor"]


def alike(found: Iterable[Number]) -> bool:
    """Return whether one network of each kind has measured them: numbers of several have no mean and no order."""
    networks = {(number.kind, number.network) for number in found}
    return len(networks) == len({kind for kind, _ in networks})


def protocols(result: dict[str, Any]) -> Iterator[str]:
    """Yield how a job was measured: what must be equal for numbers to compare."""
    for record in result["records"]:
        if record["command"] in ("fid", "paper"):
            yield _fid_protocol(record)
        scores = record if record["command"] == "disentanglement" else record.get("disentanglement")
        if scores:
            yield f"FVM {scores['fvm']['protocol']}, MIG {scores['mig']['protocol']}"
        if record.get("information"):
            yield f"R over {record['information']['samples']:,} codes"
        if record["command"] in _PROTOCOLS:
            yield _PROTOCOLS[record["command"]](record)


def _fid_protocol(record: dict[str, Any]) -> str:
    against = reals_of(record["kinds"] if record["command"] == "fid" else record)
    return (
        f"FID {record['protocol']} {record['extractor'][:12]}, {record['samples']:,} images against {against}, "
        f"evaluation seed {record['seed']}"
    )


_PROTOCOLS: dict[str, Callable[[dict[str, Any]], str]] = {
    "modes": lambda record: f"modes by factor-net {record['extractor'][:12]}, {record['samples']:,} images",
    "labels": lambda record: f"classes {record['extractor'][:12]}, {record['samples']:,} images of each",
    "leaks": lambda record: f"leaks {', '.join(record['transforms'])}, {record['samples']:,} images",
    "alignment": lambda record: f"alignment {record['extractor'][:12]}, {record['samples']:,} sources",
}


def system_of(result: dict[str, Any]) -> str | None:
    """Return the paper's name of a job's system, where it was measured."""
    return next((str(record["system"]) for record in result["records"] if "system" in record), None)


Numbers = Iterator[tuple[str, float]]


def _of_fid(record: dict[str, Any], kind: str) -> Numbers:
    kinds, own = record["kinds"], _own_codes(record)
    if kind in kinds:
        yield from _of_images(kinds[kind], record["codes"], own)
    if kind != "vae" and "vae" in kinds and record["codes"] == own:
        yield "FID of the VAE", kinds["vae"]["fid"]


def _own_codes(record: dict[str, Any]) -> str:
    """Where the codes of a record's system come from in training."""
    return {"GAN": "none", "InfoGAN": "prior"}.get(record["system"], "posterior")


def _of_images(found: dict[str, Any], codes: str, own: str) -> Numbers:
    """Yield what is known of images. codes: where theirs come from; own: where those of the training came from."""
    if codes == own:
        yield "FID", found["fid"]
        yield from ((key, found[key]) for key in ("precision", "recall", "fidelity") if found.get(key) is not None)
    elif codes == "prior":
        yield "FID, prior", found["fid"]


def _of_paper(record: dict[str, Any], kind: str) -> Numbers:
    for codes, found in record["fid"].items():
        yield from _of_images(found, codes, _own_codes(record))
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


def _of_modes(record: dict[str, Any], kind: str) -> Numbers:
    found = record["kinds"][kind]
    yield "modes", found["modes"]
    if found["kl"] is not None:
        yield "KL, modes", found["kl"]
    yield "of a mode", found["of_a_mode"]


def _of_labels(record: dict[str, Any], kind: str) -> Numbers:
    classes = [found for label in record["labels"].values() for found in label.values()]
    for column, name in (("class", "own"), ("class alone", "any_code")):
        yield column, sum(found[name] for found in classes) / len(classes)


def _of_leaks(record: dict[str, Any], kind: str) -> Numbers:
    found = record["transforms"].values()
    if all(each["leak"] is not None for each in found):  # else one cannot be told
        yield "leaks", sum(each["is_leak"] for each in found)


_OF = {
    "fid": _of_fid,
    "paper": _of_paper,
    "disentanglement": _of_encoder,
    "alignment": _of_alignment,
    "modes": _of_modes,
    "labels": _of_labels,
    "leaks": _of_leaks,
}
"""What the commands of evaluation say of a job; records of others are kept, and have no column."""
