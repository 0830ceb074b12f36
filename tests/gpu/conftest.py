"""These tests need a GPU: without one pytest says so in one line, runs nothing and leaves with 2."""

from __future__ import annotations

import pytest
import torch

from trainer.distributed.gpu_kernels import make_repeatable


def pytest_configure(config: pytest.Config) -> None:
    if not torch.cuda.is_available():
        pytest.exit(f"tests/gpu ran nothing: torch {torch.__version__} finds no CUDA GPU on this machine", returncode=2)


def pytest_report_header(config: pytest.Config) -> str:
    return f"GPU: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, torch {torch.__version__}"


@pytest.fixture(autouse=True)
def as_the_trainer_sets_it() -> None:
    make_repeatable()


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda")
