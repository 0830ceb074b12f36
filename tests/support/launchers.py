"""The commands of launchers in documents and configs, read as the launchers themselves read them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

STRATEGIES = ("use_fsdp", "use_deepspeed", "use_megatron_lm", "use_parallelism_config", "tpu", "cpu")


class Launch(NamedTuple):
    """What a launcher would start: `count` processes of `python -m MODULE ARGV`."""

    count: int
    module: str
    argv: list[str]


def launched(args: Sequence[str], place: Path = Path()) -> Launch:
    """What `accelerate launch ...` or `torchrun ...` starts when it is called in `place`.

    An unknown option ends the launcher's own parser. What forked processes cannot stand for is refused: several
    machines, another precision, a compiler or a strategy of the launcher's. tests/trainer/distributed/ runs the
    launchers themselves, which costs an interpreter that imports torch for the launcher and for each process.
    """
    if args[0] == "torchrun":
        given = get_args_parser().parse_args(args[1:])
        assert given.nnodes in ("1", "1:1"), f"{args}: forks are processes of one machine"
        count = given.nproc_per_node
    else:
        assert list(args[:2]) == ["accelerate", "launch"], args
        given = launch_command_parser().parse_args(args[2:])
        count = _accelerated(given, place)
    assert given.module, args
    return Launch(int(count), given.training_script, list(given.training_script_args))


def _accelerated(given: Namespace, place: Path) -> int:
    """The number of processes: the command line's, or else that of the config file."""
    file = None if given.config_file is None else load_config_from_file(str(place / given.config_file))

    def value(name: str, otherwise: Any) -> Any:
        values = (getattr(source, name, None) for source in (given, file))
        return next((found for found in values if found is not None), otherwise)

    assert value("num_machines", 1) == 1, "forks are processes of one machine"
    assert value("mixed_precision", "no") == "no", "forks do not set a precision"
    assert value("dynamo_backend", "no").lower() == "no", "forks do not compile"
    assert not [name for name in STRATEGIES if getattr(given, name)], "forks know no strategy of the launcher's"
    kind = "MULTI_GPU" if given.multi_gpu else getattr(file, "distributed_type", "NO")
    assert kind in ("MULTI_GPU", "NO"), f"{kind}: forks know no strategy of the launcher's"
    count = value("num_processes", None)
    assert count is not None, "without --num_processes and a config file, it hangs on the machine's GPUs"
    assert count == 1 or kind == "MULTI_GPU", f"accelerate starts one process, and not {count}, without --multi_gpu"
    return int(count)
