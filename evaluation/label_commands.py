"""The command labels: its arguments, and what it does.

It imports what it needs when it runs: `--help` would wait seconds for torch.
"""

from __future__ import annotations

from typing import Annotated

import typer

from evaluation.inputs.options import CodesOption, DataOption, EmaOption, ResultsOption, RunFolder, Seed, Step


def labels_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(min=1, help="images of each class")] = 1000,
    codes: CodesOption = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Tell how often the network of the data set reads the class that the generator was asked for."""
    from evaluation.inputs.images import code_source
    from evaluation.inputs.run import open_to_measure
    from evaluation.records.printed_output import print_and_record

    from .alignment import asked_classes
    from .factors.choose import extractor_of

    opened = open_to_measure(run, step, ema, data, out)
    extractor, source = extractor_of(opened), code_source(opened, codes)
    found = asked_classes.measure(opened, extractor, samples, source, seed)
    record = {
        "extractor": extractor.sha256,
        "samples": samples,
        "codes": source,
        "seed": seed,
        "labels": {label: {k: each._asdict() for k, each in of.items()} for label, of in found.items()},
    }
    title = f"Images that show the class that was asked for, {samples:,} of each class (codes: {source})"
    rows = asked_classes.table_rows(found)
    print_and_record(opened.results, "labels", opened.describe() | record, title, list(asked_classes.COLUMNS), rows)
