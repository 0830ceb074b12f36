"""Read a checkpoint of the public code, without its pickled code.

model.pt      of stage 2: `it`, and state_dicts of `generator`, `discriminator`, `generator_test` (the average of the
              generator) and of the optimizers; names begin with `module.`
chkpts/last   of stage 1: `iter`, and the state_dict of the VAE under `model_states`, `net`
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError, first_line
from trainer.config.feature_networks import sha256

StateDict = dict[str, Tensor]
NETWORKS = ("generator_test", "generator", "discriminator")  # the average goes before what it averages


@dataclass(frozen=True)
class PublicCheckpoint:
    """What is used of a file.

    iterations: that had ended; networks: state_dicts by their names in the file, `net` in stage 1; sha256: of the file.
    """

    path: Path
    iterations: int
    networks: dict[str, StateDict]
    sha256: str

    @property
    def is_vae(self) -> bool:
        """Whether it is of stage 1."""
        return "net" in self.networks

    @property
    def generator(self) -> str:
        """The name of the generator that makes samples: of the average, where the file has one."""
        return next(name for name in NETWORKS if name in self.networks)


def read(path: Path) -> PublicCheckpoint:
    """Read a checkpoint of either stage. Raises a UserError where the file is none, or holds more than data."""
    content = _load(path)
    states = content.get("model_states")
    if isinstance(states, dict):
        iterations, networks = content.get("iter"), {"net": states.get("net")}
    else:
        last = content.get("it")  # counts from 0, and is the last iteration that ended
        iterations = last + 1 if isinstance(last, int) else None
        networks = {name: content[name] for name in NETWORKS if name in content}
    if not isinstance(iterations, int) or not {"net", "generator", "generator_test"} & networks.keys():
        keys = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise UserError(
            f"{path}: is no checkpoint of the public code: it holds {keys}; name its model.pt or chkpts/last"
        )
    return PublicCheckpoint(path, iterations, {n: _state(path, n, s) for n, s in networks.items()}, sha256(path))


def _load(path: Path) -> dict[Any, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a model.pt or a chkpts/last of the public code") from None
    except IsADirectoryError:
        raise UserError(
            f"{path}: is a folder; name the file in it: chkpts/model.pt, or chkpts/last of stage 1"
        ) from None
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds more than tensors and numbers, or is damaged ({first_line(error)}); pickled code is never "
            "run: save the dictionary of state_dicts alone"
        ) from None
    except Exception as error:  # whatever a broken or foreign file makes torch raise
        raise UserError(f"{path}: is no file of torch.save, or damaged ({first_line(error)}); copy it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dictionary; name a model.pt or a chkpts/last")
    return content


def _state(path: Path, name: str, state: object) -> StateDict:
    """Return a state_dict without the prefix of DataParallel."""
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"{path}: {name}: is no state_dict of tensors; name a model.pt or a chkpts/last")
    return {str(key).removeprefix("module."): tensor for key, tensor in state.items()}
