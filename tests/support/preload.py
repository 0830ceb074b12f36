"""Imported once by the fork server of tests/support/processes.py.

The packages import what is large where they use it. Here it is imported ahead, so that no forked process has to.
"""

import gc
import os
from importlib import import_module

os.environ["OMP_NUM_THREADS"] = "1"
LARGE = (
    "accelerate",
    "aiohttp.web",
    "av",
    "cleanfid.features",
    "dicebear",
    "h5py",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "mlflow.store.tracking.file_store",
    "pytest",  # by the modules of tests whose functions are run
    "pyarrow.parquet",
    "resvg_py",
    "safetensors.torch",
    "scipy.linalg",
    "scipy.io",
    "sklearn.ensemble",
    "sklearn.svm",
    "torch._dynamo",
    "torch._functorch.aot_autograd",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.export",
    "torch.utils.tensorboard",
    "torchvision.io",
    "wandb",
    "webdataset",
)
OURS = (
    "data_shards.build.make_commands",
    "trainer.preflight",
    "trainer.run",
    "trainer.plan_table",
    "trainer.export.write",
    "trainer.apps.explore.routes",
    "trainer.apps.generate",
    "trainer.checkpoints.listing",
    "evaluation.pages.report",
    "evaluation.factors.factor_network",
)
for name in (*LARGE, *OURS):
    import_module(name)
gc.collect()
gc.freeze()  # the collector of a forked process leaves these objects alone, and so their pages stay shared
