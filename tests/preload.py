"""Imported once by the fork server of tests/processes.py."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)

import data_shards.commands
import evaluation.report
import trainer.loop
import trainer.stages  # noqa: F401
