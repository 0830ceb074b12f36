"""Which shipped network knows a run's images."""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError
from evaluation.inputs.run import Run
from trainer.config.feature_networks import SHIPPED_NETWORKS

from .backgrounds import warn_of_painting
from .extractor import Extractor
from .face_network import load_face_extractor, warn_of_version
from .factor_network import load_factor_extractor, weights_of


def extractor_of(run: Run) -> Extractor:
    """Load the network for a run's images. Raises UserError where no shipped one knows them.

    A painting that the network reads badly is warned of, and faces of another version of their style.
    """
    extractor = extractor_for(run.path, run.data.main.manifest.data_set, run.data.variant)
    warn_of_painting(extractor, run.data.painting)
    warn_of_version(extractor, run.data.main.manifest.recipe)
    return extractor


def extractor_for(path: Path, data_set: str, variant: str, sha256: str | None = None) -> Extractor:
    """Load the network for a data set's variant. path: of what was trained on it, to name in an error.

    sha256: of the network behind older figures that the new ones are compared with, see `weights_of`.
    """
    protocol = SHIPPED_NETWORKS.get(data_set)
    if protocol is None:
        raise UserError(
            f"{path}: trained on {data_set}; the shipped networks know {' and '.join(SHIPPED_NETWORKS)} only"
        )
    return load_face_extractor() if protocol == "face-net" else load_factor_extractor(weights_of(variant, sha256))
