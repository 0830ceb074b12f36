"""Imported once by the fork server of tests/support/processes.py."""

import os
from importlib import import_module

os.environ["OMP_NUM_THREADS"] = "1"
for name in (
    "data_shards.__main__",
    "trainer.preflight",
    "trainer.run",
    "trainer.plan_table",
    "trainer.export.write",
    "trainer.checkpoints.listing",
    "evaluation.pages.report",
    "evaluation.factors.factor_network",
):
    import_module(name)
