"""The command modes: its arguments, and what it does.

It imports what it needs when it runs: `--help` would wait seconds for torch.
"""

from __future__ import annotations

from typing import Annotated

import typer

from evaluation.inputs.choices import Kind
from evaluation.inputs.options import CodesOption, DataOption, EmaOption, ResultsOption, RunFolder, Seed, Step

SAMPLES = 25_600


def modes_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(min=2, help="images of each kind")] = SAMPLES,
    codes: CodesOption = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Count the modes of stacked sprites that the run's images cover, and say how evenly they do."""
    from evaluation.inputs.images import code_source
    from evaluation.inputs.run import open_to_measure
    from evaluation.records.printed_output import print_and_record

    from .factors import modes
    from .factors.factor_network import load_factor_extractor

    opened = open_to_measure(run, step, ema, data, out)
    kinds: list[Kind] = ["reals", "gan"] if opened.generator is not None else ["reals", "vae"]
    extractor, source = load_factor_extractor(), code_source(opened, codes)
    found = modes.measure(opened, extractor, kinds, samples, source, seed)
    record = {
        "extractor": extractor.sha256,
        "samples": samples,
        "codes": source,
        "seed": seed,
        "kinds": {kind: coverage._asdict() for kind, coverage in found.items()},
    }
    title = (
        f"{samples:,} images; as many draws of 1,000 equally likely modes cover {modes.expected_modes(samples):,.1f} "
        f"and have a KL of {modes.expected_kl(samples):.3f}"
    )
    print_and_record(
        opened.results, "modes", opened.describe() | record, title, list(modes.COLUMNS), modes.table_rows(found)
    )
