"""Which shipped network knows a run's images."""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError
from evaluation.inputs.run import Run
from trainer.config.feature_networks import SHIPPED_NETWORKS

from .extractor import Extractor
from .face_network import load_face_extractor
from .factor_network import load_factor_extractor


def extractor_of(run: Run) -> Extractor:
    """Load the network for a run's data set. Raises UserError where no shipped one knows it."""
    return extractor_for(run.path, run.data.main.manifest.data_set)


def extractor_for(path: Path, data_set: str) -> Extractor:
    """Load the network for a data set. path: of the run or export that was trained on it, to name in an error."""
    protocol = SHIPPED_NETWORKS.get(data_set)
    if protocol is None:
        raise UserError(
            f"{path}: trained on {data_set}; the shipped networks know {' and '.join(SHIPPED_NETWORKS)} only"
        )
    return load_face_extractor() if protocol == "face-net" else load_factor_extractor()
