"""The strategies zero1 to zero3, DeepSpeed's ZeRO: stage 1 splits optimizer state, 2 gradients too, 3 parameters too.

DeepSpeed's engine wraps the optimizer and the backward pass; networks are called without it. It keeps everything in
flat pieces, so a checkpoint takes whole tensors, which one sum over the processes assembles.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from common import shipped
from common.errors import UserError, first_line
from trainer.config.sections import Strategy
from trainer.distributed import deepspeed_settings
from trainer.distributed.world import World

from .base import MakeOptimizer, Named, blueprint, materialise, named, unfreeze_but

STAGES: dict[Strategy, int] = {"zero1": 1, "zero2": 2, "zero3": 3}
FIXED_SETTINGS = {  # so that DeepSpeed takes one step, unclipped, when the trainer says so, with the config's optimizer
    "train_micro_batch_size_per_gpu": 1,
    "managed_gradient_accumulation": False,
    "gradient_clipping": 0.0,  # DeepSpeed's default is 1
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}


class Piece(NamedTuple):
    """This process's part of a flattened tensor, which shares storage with DeepSpeed's, and the index of its start."""

    values: Tensor
    start: int


class Zero:
    """ZeRO's stages 1 to 3.

    In stages 1 and 2 every process has whole parameters and, besides them, fp32 copies of its part.
    """

    adds_gradients = False

    def __init__(
        self,
        name: str,
        network: nn.Module,
        make_optimizer: MakeOptimizer,
        world: World,
        strategy: Strategy,
        frozen: Collection[str] = (),
    ) -> None:
        self.name, self.network, self.blueprint = name, network, blueprint(network)
        self.world, self.zero_stage = world, STAGES[strategy]
        self.shapes = {key: p.shape for key, p in network.named_parameters()}
        self.engine = _initialize(network, make_optimizer(network), world, strategy)
        self.optimizer: torch.optim.Optimizer = self.engine.optimizer.optimizer  # of flat pieces
        self._materialise()
        self.frozen = [p for key, p in network.named_parameters() if key in frozen]

    def _materialise(self) -> None:
        """Make the optimizer's state now. In stage 3 DeepSpeed hands it the flat pieces one by one, in each step."""
        (group,) = self.optimizer.param_groups
        parameters = group["params"]
        if self.zero_stage == 3:
            group["params"] = self.engine.optimizer.fp32_partitioned_groups_flat
        materialise(self.optimizer)
        group["params"] = parameters

    def freeze(self) -> None:
        """Compute no gradients of the parameters until `unfreeze`."""
        self.network.requires_grad_(False)

    def unfreeze(self) -> None:
        """Compute gradients of the parameters again."""
        unfreeze_but(self.network, self.frozen)

    def backward(self, loss: Tensor, last: bool = False) -> None:
        """Add the gradients of this process's loss. DeepSpeed sends them as it does, in every pass."""
        if self.zero_stage == 3:  # as DeepSpeed's own forward pass does; else a second pass overwrites the first
            self.engine.optimizer.clear_backward_seen_flag()
        self.engine.backward(loss)

    @record_function("optimizer step")
    def step(self) -> Tensor:
        """Average the gradients, step and clear them, as DeepSpeed does, and return the average's norm."""
        self.engine.step()
        if self.zero_stage == 3:  # else a parameter that takes no part any more keeps its last gradient
            self.engine.optimizer.grad_partitions_flat_buffer.zero_()
        return torch.as_tensor(self.engine.get_global_grad_norm(), device=self.world.device)

    def shards(self) -> Named:
        """Return the whole parameters, or in stage 3 the pieces that DeepSpeed holds."""
        parameters: dict[str, Any] = dict(self.network.named_parameters())
        return {key: p.ds_tensor if self.zero_stage == 3 else p.detach() for key, p in parameters.items()}

    def full_tensors(self, shards: Mapping[str, Tensor]) -> Named:
        """Return the whole tensors of shards."""
        if self.zero_stage < 3:
            return dict(shards)
        return self._assemble({key: self._even(key, shard) for key, shard in shards.items()})

    saved = full_tensors

    @torch.no_grad()
    def load_shards(self, shards: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
        """Write this process's part of whole tensors into shards."""
        for key, shard in shards.items():
            if self.zero_stage < 3:
                shard.copy_(saved[key])
            else:
                _write(self._even(key, shard), saved[key])

    def replicated(self) -> Named:
        """Return the parameters, or nothing in stage 3, which splits them."""
        return {} if self.zero_stage == 3 else named(self.name, self.shards(), {})

    def state_dict(self) -> Named:
        """Return a checkpoint's tensors of network and optimizer."""
        with self._unfrozen():
            return named(self.name, self.full_tensors(self.shards()), self._states())

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state_dict` returned."""
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
        """Return the kinds of optimizer state that are as large as the parameters."""
        flat = next(iter(self.optimizer.state.values()))
        return [kind for kind in flat if kind not in _counts(flat)]

    def _states(self) -> dict[str, Named]:
        """Return whole optimizer state, by kind and parameter.

        DeepSpeed keeps a count once for a flat piece; a checkpoint has it for each parameter.
        """
        states = {kind: self._assemble(self._pieces(kind)) for kind in self._kinds()}
        flat = next(iter(self.optimizer.state.values()))
        return states | {kind: dict.fromkeys(self.shapes, flat[kind]) for kind in _counts(flat)}

    def _pieces(self, kind: str | None) -> dict[str, Piece]:
        """Return this process's pieces by parameter: of a kind of state, or of the fp32 copy (kind None)."""
        pieces = {key: self._piece(key, p, kind) for key, p in self.network.named_parameters()}
        return {key: piece for key, piece in pieces.items() if piece}

    def _piece(self, key: str, parameter: Any, kind: str | None) -> Piece | None:
        from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

        if self.zero_stage == 3:
            local = safe_get_local_optimizer_state(parameter, kind) if kind else safe_get_local_fp32_param(parameter)
            return self._even(key, local)
        mapping = parameter._hp_mapping
        if mapping is None:
            return None
        flat = self.engine.optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
        address = mapping.get_hp_fragment_address()
        values = (self.optimizer.state[flat][kind] if kind else flat).detach()
        values = values.narrow(0, address.start, address.numel)
        return Piece(values, mapping.lp_fragment_address.start)

    def _even(self, key: str, local: Tensor) -> Piece:
        """Return a piece of stage 3, which splits parameters evenly; the padding at the end is cut off."""
        start = self.world.rank * local.numel()
        return Piece(local.detach()[: max(self.shapes[key].numel() - start, 0)], start)

    def _assemble(self, pieces: Mapping[str, Piece]) -> Named:
        """Sum zeros with this process's pieces filled in over the processes: whole tensors."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        whole = torch.zeros(sum(sizes), device=self.world.device)
        out = dict(zip(self.shapes, whole.split(sizes), strict=True))
        for key, piece in pieces.items():
            out[key][piece.start : piece.start + piece.values.numel()] = piece.values
        self.world.all_reduce_sum_(whole)
        return {key: out[key].view(shape) for key, shape in self.shapes.items()}

    @contextmanager
    def _unfrozen(self) -> Iterator[None]:
        """Unfreeze the network within: DeepSpeed returns nothing of a frozen parameter."""
        frozen = [p for p in self.network.parameters() if not p.requires_grad]
        for p in frozen:
            p.requires_grad_(True)
        try:
            yield
        finally:
            for p in frozen:
                p.requires_grad_(False)


def _counts(flat: Mapping[str, Tensor]) -> list[str]:
    """Return the kinds of optimizer state that are one number: the step counts of Adam and RMSprop."""
    return [kind for kind, value in flat.items() if value.dim() == 0]


def _write(piece: Piece, whole: Tensor) -> None:
    """Copy a piece's part of a whole tensor into it."""
    piece.values.copy_(whole.flatten()[piece.start : piece.start + piece.values.numel()])


def import_deepspeed(strategy: Strategy, device: torch.device) -> Any:
    """Import DeepSpeed, an optional dependency, for a device. Raises a UserError where it cannot be imported."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    warnings.filterwarnings("ignore", "`torch.distributed.*deprecated", FutureWarning)  # DeepSpeed's own calls
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
    except ImportError as error:
        raise UserError(
            f"strategy: {strategy} needs DeepSpeed, which cannot be imported ({first_line(error)}); "
            f"set another strategy, or {shipped.installing('deepspeed')}"
        ) from None
    return deepspeed


def _initialize(network: nn.Module, optimizer: torch.optim.Optimizer, world: World, strategy: Strategy) -> Any:
    """Build a DeepSpeed engine with the settings of its strategy."""
    deepspeed = import_deepspeed(strategy, world.device)
    deepspeed.init_distributed(dist_init_required=False, auto_mpi_discovery=False, verbose=False)
    settings = deepspeed_settings.read(strategy)
    fixed = sorted(settings.keys() & FIXED_SETTINGS.keys())
    if fixed:
        path = deepspeed_settings.path(strategy)
        raise UserError(f"{path}: the trainer sets {', '.join(fixed)} itself; leave it out")
    return deepspeed.initialize(model=network, optimizer=optimizer, config=settings | FIXED_SETTINGS)[0]
