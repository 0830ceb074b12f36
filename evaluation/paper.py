"""All that the paper measures of a run, with its protocols, as one record.

FID by pytorch-fid's Inception, of the dSprites family and faces by the network that knows their factors; both sources
of codes, since training draws them from the aggregated posterior and the authors' evaluation from N(0, I); FVM and MIG
of the encoder where the data have known factors; R in nats, which the appendix is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from evaluation.disentanglement import encoding
from evaluation.fid import extractors
from evaluation.fid.extractors import FeatureNet
from evaluation.fid.plan import FidPlan
from evaluation.inputs.choices import Codes, FidProtocol
from evaluation.inputs.images import code_source, own_kind
from evaluation.inputs.run import CPU, Run
from trainer.config.feature_networks import SHIPPED_NETWORKS

from . import measure, measured_once

COLUMNS = ("quantity", "protocol", "value")


@dataclass(frozen=True)
class PaperPlan:
    """What is measured. samples: images behind each FID; codes: behind R; seed: of the evaluation."""

    net: FeatureNet
    samples: int
    codes: int
    seed: int


def network(run: Run, weights: Path | None, device: torch.device) -> FeatureNet:
    """Return the network of FID, on the device where FID and R are measured; FVM and MIG are measured on the CPU.

    weights: the file of pytorch-fid's Inception, None for the config's.
    """
    protocol: FidProtocol = SHIPPED_NETWORKS.get(run.data.main.manifest.data_set) or "legacy_pytorch"
    images = extractors.drawn_images(run.data)
    return extractors.load(protocol, run.config.inception, weights, run.results, device, images)


def sources(run: Run) -> list[Codes]:
    """Return where codes come from, one after the other; the run's own is last, which `best` is chosen by."""
    own = code_source(run, None)
    both: list[Codes] = ["prior", "posterior"] if run.q is not None else ["prior"]
    return ["none"] if own == "none" else [*(source for source in both if source != own), own]


def paper(run: Run, plan: PaperPlan) -> dict[str, Any]:
    """Measure a run as the paper does. What its records hold already is taken from there."""
    kind, device = own_kind(run), plan.net.device
    run = run.to(device)
    fids = [measured_once.fid(run, FidPlan(plan.net, (kind,), plan.samples, s, plan.seed)) for s in sources(run)]
    record = {
        "protocol": plan.net.protocol,
        "extractor": plan.net.sha256,
        "samples": plan.samples,
        "seed": plan.seed,
        "reference_count": fids[-1]["kinds"]["reference_count"],
        "fid": {found["codes"]: found["kinds"][kind] for found in fids},
        "encoder": run.encoder,
        "encoder_sha256": run.encoder_sha256,
        "disentanglement": None,
        "information": None,
    }
    if run.q is not None:
        record["information"] = measure.information(run, plan.codes, plan.seed)
        record |= _of_factors(run.to(CPU), plan.seed)
    return record


def _of_factors(run: Run, seed: int) -> dict[str, Any]:
    try:
        encoding.space_of(run, seed)
    except UserError as error:
        return {"not_measured": str(error)}
    found = measured_once.disentanglement(run, measure.fvm_protocol(run, None, short=False), seed)
    return {"disentanglement": {name: found[name] for name in measure.SCORES}}


def rows(record: dict[str, Any]) -> list[list[str]]:
    """Format a record as cells under COLUMNS."""
    network = f"{record['protocol']} {record['extractor'][:12]}"
    shown = [[f"FID, codes: {codes}", network, f"{found['fid']:.3g}"] for codes, found in record["fid"].items()]
    scores = record["disentanglement"]
    if "not_measured" in record:
        shown.append(["FVM, MIG", "", f"not measured: {record['not_measured']}"])
    if scores is not None:
        shown.append(["FVM, train accuracy", scores["fvm"]["protocol"], f"{scores['fvm']['train_accuracy']:.3f}"])
        shown.append(["MIG", scores["mig"]["protocol"], f"{scores['mig']['score']:.3f}"])
    r = record["information"]
    if r is not None:
        name = "R_Info" if r["codes"] == "prior" else "R_ID"
        entropy = r["entropy"]
        protocol = f"H(c) {entropy['mean']:.2f} ± {entropy['error']:.2f}, {r['samples']:,} codes"
        shown += [
            [f"{name} of {kind}, nats", protocol, f"{each['nats']:.2f} ± {each['error']:.2f}"]
            for kind, each in r["kinds"].items()
        ]
    return shown
