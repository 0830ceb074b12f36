"""The commands fid, reference, path-length and weights: their arguments, and what each does in order.

They import what they need when they run: `--help` would wait seconds for torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from common import cli
from common.errors import UserError
from data_shards.read.variant_names import Variant
from evaluation.inputs.choices import KINDS, FidCodes, FidProtocol
from evaluation.inputs.options import CodesOption, DataOption, EmaOption, ResultsOption, RunFolder, Seed, Step
from trainer.config.feature_networks import FILES, Inception

ProtocolOption = Annotated[
    FidProtocol | None,
    typer.Option(help="network of the features [default: factor-net for dSprites, clean for all else]"),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="file of the network [default: Inception's, that of the config, inception.*]", parser=cli.path),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="where networks run")]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(
        help="file of `evaluation reference` to compare with [default: that of the data, of an export its own]",
        parser=cli.shipped_path,
    ),
]
KeepImages = Annotated[
    Path | None,
    typer.Option(
        help="folder for every image, as KIND-CODES-SEED[-CLASS]/000000.png",
        parser=cli.path,
    ),
]
KeepFeatures = Annotated[
    bool, typer.Option("--keep-features", help="keep the features of all images in RUN/evaluation/features")
]
Of = Annotated[
    str, typer.Option(help=f"images to measure, comma-separated: {', '.join(KINDS)} [default: the run's own]")
]
CodesOfFid = Annotated[
    FidCodes,
    typer.Option(help="draw c from the aggregated posterior, from N(0, I), or each in turn [default: as in training]"),
]
ClassOfFid = Annotated[
    str | None,
    typer.Option(
        "--class",
        help="images of some classes alone, such as shape=heart, or `each` in turn, of what was trained with labels "
        "[default: all]",
    ),
]
Release = Annotated[
    bool, typer.Option("--release", help="for jobs that a run submits: it may delete the checkpoint --step afterwards")
]


def fid_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(help="generated images, and at most as many reals")] = 50_000,
    protocol: ProtocolOption = None,
    of: Of = "",
    codes: CodesOfFid = None,
    class_: ClassOfFid = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="number of seeds; more than one prints mean and spread")] = 1,
    step: Step = None,
    reference: ReferenceOption = None,
    weights: Weights = None,
    keep_images: KeepImages = None,
    keep_features: KeepFeatures = False,
    release: Release = False,
    data: DataOption = None,
    out: ResultsOption = None,
    device: Device = "auto",
) -> None:
    """Measure FID, KID, precision, recall, density, coverage, sharpness, sprite fidelity. A stopped job resumes."""
    if release and step is None:
        raise UserError("--release: which checkpoint? name it with --step")
    from . import fid_steps as steps
    from .fid import trajectory
    from .fid.plan import FidPlan

    held = step if release else None
    with steps.processes(device) as world, trajectory.release_when_done(run, held, world):
        opened = steps.open_everywhere(run, step, ema, world, data, out)
        targets = world.on_all(lambda: steps.targets(opened, class_))
        reference = reference or steps.own_reference(targets[0], protocol)
        net = world.on_all(lambda: steps.network(opened, protocol, weights, reference, world))
        kinds = steps.requested_kinds(opened, of)
        plans = [
            FidPlan(net, kinds, samples, source, seed, seeds, reference, keep_images, keep_features)
            for source in steps.code_sources(opened, codes)
        ]
        for target in targets:
            steps.measure_all(target, plans, world)


def reference_command(
    data: Annotated[Any, typer.Argument(help="a folder of shards, or its URL", metavar="DATA", parser=cli.location)],
    resolution: Annotated[
        int | None, typer.Option(help="px of the reals, in factor-net of their sharpness [default: the largest level]")
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="number of reals, at most all")] = 50_000,
    protocol: ProtocolOption = None,
    variant: Annotated[Variant, typer.Option(help="how dSprites are drawn")] = "plain",
    painting: Annotated[
        Path | None, typer.Option(help="image file behind the sprites of scream", parser=cli.path)
    ] = None,
    class_: Annotated[
        str | None, typer.Option("--class", help="images of some classes alone, such as shape=heart [default: all]")
    ] = None,
    seed: Seed = 0,
    weights: Weights = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="folder for the file, needed where DATA is a URL [default: DATA/references]", parser=cli.path
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Compute the statistics of the reals ahead of time: every `fid` with the same settings reads them there."""
    from evaluation.records.printed_output import show
    from trainer.config.sections import DataConfig

    from . import fid_steps as steps

    with steps.processes(device) as world:
        config = DataConfig(path=data, variant=variant, painting=painting)
        reals = world.on_all(lambda: steps.open_reals(config, seed, class_))
        net = world.on_all(lambda: steps.network_of_reals(reals, protocol, weights, world))
        path, identity = steps.make_reference(reals, net, resolution, samples, seed, out, world)
        if world.is_main:
            show("reference", ["name", "value"], [[name, str(value)] for name, value in identity.items()])
            print(json.dumps({"command": "reference", "file": str(path), **identity}))


def path_length_command(
    run: RunFolder,
    weights: Annotated[
        Path | None, typer.Option(help="VGG16 of StyleGAN2-ADA's metrics, vgg16.pt; needed", parser=cli.path)
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="pairs of latents, in s and in c each")] = 50_000,
    codes: CodesOption = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Measure the perceptual path length of the run's generator, in s and in c."""
    if weights is None:
        raise UserError("--weights: is missing; name vgg16.pt, which StyleGAN2-ADA's metrics download")
    from evaluation.inputs.images import code_source
    from evaluation.inputs.run import open_to_measure
    from evaluation.records import network_files
    from evaluation.records.file_lock import hold_lock
    from evaluation.records.printed_output import print_and_record
    from trainer.config.feature_networks import sha256
    from trainer.distributed.world import ALONE

    from . import path_length
    from .published_networks.lpips import lpips_features

    opened = open_to_measure(run, step, ema, data, out)
    spaces, source = path_length.spaces(opened), code_source(opened, codes)
    features, digest = lpips_features(weights, opened.device), sha256(weights)
    network_files.refuse_another(opened.results, path_length.NAME, weights, digest)
    lengths = {space: path_length.length(opened, features, space, source, pairs, seed) for space in spaces}
    record = {"extractor": digest, "pairs": pairs, "codes": source, "seed": seed, "lengths": lengths}
    rows = [[space, f"{value:,.4g}"] for space, value in lengths.items()]
    title = f"Perceptual path length, {pairs:,} pairs (VGG16 {digest[:12]}, codes: {source})"
    with hold_lock(opened.results.folder / "lock", ALONE, "a record of this run"):
        network_files.record(opened.results, path_length.NAME, digest)
        print_and_record(opened.results, path_length.NAME, opened.describe() | record, title, path_length.COLUMNS, rows)


def weights_command(
    protocol: Annotated[Inception, typer.Argument(help="protocol whose network to fetch")],
    out: Annotated[
        Path | None, typer.Option(help="file to write [default: weights/ and its published name]", parser=cli.path)
    ] = None,
) -> None:
    """Fetch the weights of a published Inception network from the internet."""
    path = out or Path("weights") / FILES[protocol]
    if path.exists():
        raise UserError(f"{path}: is there already; remove it, or name another place with --out")
    from .published_networks import inception

    digest = inception.fetch(protocol, path)
    print(json.dumps({"command": "weights", "file": str(path), "sha256": digest}))
