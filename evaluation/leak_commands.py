"""The command leaks: its arguments, and what it does.

It imports what it needs when it runs: `--help` would wait seconds for torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from evaluation.inputs.options import CodesOption, DataOption, EmaOption, ResultsOption, RunFolder, Seed, Step


def leaks_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(min=2, help="generated images, and at most as many reals")] = 5000,
    augment: Annotated[
        Literal["diffaugment", "ada"] | None,
        typer.Option(help="transforms to look for; by default those that the run was trained with"),
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="length of the detector's training")] = 1500,
    codes: CodesOption = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Tell whether the run's images show what its augmentation does to the images that D sees."""
    from evaluation.inputs.images import code_source
    from evaluation.inputs.run import open_to_measure
    from evaluation.records.printed_output import print_and_record

    from .factors import leaks

    opened = open_to_measure(run, step, ema, data, out)
    chosen = leaks.augment_of(opened, augment)
    source = code_source(opened, codes)
    found = leaks.measure(opened, chosen, samples, source, seed, iterations)
    record = {
        "augment": chosen.model_dump(mode="json"),
        "samples": samples,
        "iterations": iterations,
        "codes": source,
        "seed": seed,
        "transforms": {name: each._asdict() | {"is_leak": each.is_leak} for name, each in found.items()},
    }
    title = "Images that a detector takes for changed by the augmentation"
    print_and_record(
        opened.results, "leaks", opened.describe() | record, title, list(leaks.COLUMNS), leaks.table_rows(found)
    )
