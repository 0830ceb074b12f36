"""DeepSpeed's ZeRO: optimizer state (stage 1), gradients too (2), parameters too (3) split over the processes.

Its engine wraps the optimizer and its backward pass; networks are called as they are. DeepSpeed keeps everything in
flat pieces, so a checkpoint takes whole tensors, each assembled by one sum over the processes.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import UserError
from trainer.distributed import deepspeed_settings
from trainer.distributed.world import World

from .base import MakeOptimizer, Named, blueprint, materialise, named

OURS = {  # a step is what the trainer says it is, and the optimizer the config's
    "train_micro_batch_size_per_gpu": 1,
    "managed_gradient_accumulation": False,
    "gradient_clipping": 0.0,  # DeepSpeed's default is 1
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}


class Piece(NamedTuple):
    """This process's part of a flattened tensor, which shares storage with DeepSpeed's, and where it begins."""

    values: Tensor
    start: int


class Zero:
    """Stages 1 to 3. In 1 and 2 every process has whole parameters, and besides them fp32 copies of its part."""

    def __init__(self, name: str, network: nn.Module, make_optimizer: MakeOptimizer, world: World, stage: int) -> None:
        self.name, self.network, self.blueprint = name, network, blueprint(network)
        self.world, self.stage = world, stage
        self.shapes = {key: p.shape for key, p in network.named_parameters()}
        self.engine = _initialize(network, make_optimizer(network), world, stage)
        self.optimizer: torch.optim.Optimizer = self.engine.optimizer.optimizer  # of flat pieces
        self._materialise()

    def _materialise(self) -> None:
        """Optimizer state from the start. Stage 3 hands the optimizer its flat pieces one by one, in each step."""
        (group,) = self.optimizer.param_groups
        handed = group["params"]
        if self.stage == 3:
            group["params"] = self.engine.optimizer.fp32_partitioned_groups_flat
        materialise(self.optimizer)
        group["params"] = handed

    def freeze(self) -> None:
        self.network.requires_grad_(False)

    def unfreeze(self) -> None:
        self.network.requires_grad_(True)

    def backward(self, loss: Tensor) -> None:
        if self.stage == 3:  # DeepSpeed does so before its own forward pass; else a second pass overwrites the first
            self.engine.optimizer.clear_backward_seen_flag()
        self.engine.backward(loss)

    def step(self) -> Tensor:
        self.engine.step()
        if self.stage == 3:  # else a parameter that is active no longer keeps its last gradient
            self.engine.optimizer.grad_partitions_flat_buffer.zero_()
        return torch.as_tensor(self.engine.get_global_grad_norm(), device=self.world.device)

    def shards(self) -> Named:
        held: dict[str, Any] = dict(self.network.named_parameters())
        return {key: p.ds_tensor if self.stage == 3 else p.detach() for key, p in held.items()}

    def full_tensors(self, shards: Mapping[str, Tensor]) -> Named:
        if self.stage < 3:
            return dict(shards)
        return self._assemble({key: self._even(key, shard) for key, shard in shards.items()})

    saved = full_tensors

    @torch.no_grad()
    def load_shards(self, shards: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
        for key, shard in shards.items():
            if self.stage < 3:
                shard.copy_(saved[key])
            else:
                _write(self._even(key, shard), saved[key])

    def replicated(self) -> Named:
        return {} if self.stage == 3 else named(self.name, self.shards(), {})

    def state_dict(self) -> Named:
        with self._unfrozen():
            return named(self.name, self.full_tensors(self.shards()), self._states())

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        with self._unfrozen():
            self.load_shards(self.shards(), {key: tensors[f"{self.name}.{key}"] for key in self.shapes})
            for key, piece in self._pieces(None).items():
                _write(piece, tensors[f"{self.name}.{key}"])
            for kind in self._kinds():
                for key, piece in self._pieces(kind).items():
                    _write(piece, tensors[f"optimizer.{self.name}.{kind}.{key}"])
            for flat in self.optimizer.state.values():
                for kind in _counts(flat):
                    flat[kind].copy_(tensors[f"optimizer.{self.name}.{kind}.{next(iter(self.shapes))}"])

    def _kinds(self) -> list[str]:
        """Of optimizer state that is as large as the parameters."""
        flat = next(iter(self.optimizer.state.values()))
        return [kind for kind in flat if kind not in _counts(flat)]

    def _states(self) -> dict[str, Named]:
        """Whole, by kind. What an optimizer keeps once for a flat piece is each parameter's own in a checkpoint."""
        found = {kind: self._assemble(self._pieces(kind)) for kind in self._kinds()}
        flat = next(iter(self.optimizer.state.values()))
        return found | {kind: dict.fromkeys(self.shapes, flat[kind]) for kind in _counts(flat)}

    def _pieces(self, kind: str | None) -> dict[str, Piece]:
        """By parameter, what this process has of it: of the fp32 copy that the optimizer moves, or of its state."""
        return {key: piece for key, p in self.network.named_parameters() if (piece := self._piece(key, p, kind))}

    def _piece(self, key: str, parameter: Any, kind: str | None) -> Piece | None:
        from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

        if self.stage == 3:
            local = safe_get_local_optimizer_state(parameter, kind) if kind else safe_get_local_fp32_param(parameter)
            return self._even(key, local)
        mapping = parameter._hp_mapping
        if mapping is None:
            return None
        flat = self.engine.optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
        at = mapping.get_hp_fragment_address()
        values = (self.optimizer.state[flat][kind] if kind else flat).detach().narrow(0, at.start, at.numel)
        return Piece(values, mapping.lp_fragment_address.start)

    def _even(self, key: str, local: Tensor) -> Piece:
        """Stage 3 splits each parameter evenly, with padding at its end, which is cut off here."""
        start = self.world.rank * local.numel()
        return Piece(local.detach()[: max(self.shapes[key].numel() - start, 0)], start)

    def _assemble(self, pieces: Mapping[str, Piece]) -> Named:
        """Whole tensors of all processes' pieces, by one sum over zeros."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        whole = torch.zeros(sum(sizes), device=self.world.device)
        out = dict(zip(self.shapes, whole.split(sizes), strict=True))
        for key, piece in pieces.items():
            out[key][piece.start : piece.start + piece.values.numel()] = piece.values
        self.world.all_reduce_sum_(whole)
        return {key: out[key].view(shape) for key, shape in self.shapes.items()}

    @contextmanager
    def _unfrozen(self) -> Iterator[None]:
        """DeepSpeed gives nothing of a frozen parameter."""
        frozen = [p for p in self.network.parameters() if not p.requires_grad]
        for p in frozen:
            p.requires_grad_(True)
        try:
            yield
        finally:
            for p in frozen:
                p.requires_grad_(False)


def _counts(flat: Mapping[str, Tensor]) -> list[str]:
    """Kinds of optimizer state that are one number: Adam's and RMSprop's step."""
    return [kind for kind, value in flat.items() if value.dim() == 0]


def _write(piece: Piece, whole: Tensor) -> None:
    piece.values.copy_(whole.flatten()[piece.start : piece.start + piece.values.numel()])


def _initialize(network: nn.Module, optimizer: torch.optim.Optimizer, world: World, stage: int) -> Any:
    """A DeepSpeed engine with the settings of its stage."""
    os.environ.setdefault("DS_ACCELERATOR", world.device.type)
    warnings.filterwarnings("ignore", "`torch.distributed.*deprecated", FutureWarning)  # of DeepSpeed's own calls
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
    except ImportError:
        raise UserError(
            f"strategy: zero{stage} needs DeepSpeed; pip install 'idgan[deepspeed]', or set another"
        ) from None
    deepspeed.init_distributed(dist_init_required=False, auto_mpi_discovery=False, verbose=False)
    settings = deepspeed_settings.read(stage)
    taken = sorted(settings.keys() & OURS.keys())
    if taken:
        raise UserError(f"{deepspeed_settings.path(stage)}: {', '.join(taken)} is the trainer's to set; leave it out")
    return deepspeed.initialize(model=network, optimizer=optimizer, config=settings | OURS)[0]
