"""The commands of launchers in documents and configs, read as the launchers themselves read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser


class Launch(NamedTuple):
    """What a launcher would start: `count` processes of `python -m MODULE ARGV`."""

    count: int
    module: str
    argv: list[str]


def launched(args: Sequence[str], place: Path = Path()) -> Launch:
    """What `accelerate launch ...` or `torchrun ...` starts when it is called in `place`.

    An unknown option ends the launcher's own parser. tests/trainer/distributed/ runs the launchers themselves, which
    costs an interpreter that imports torch for the launcher and for each process.
    """
    if args[0] == "torchrun":
        found = get_args_parser().parse_args(args[1:])
        count = int(found.nproc_per_node)
    else:
        assert list(args[:2]) == ["accelerate", "launch"], args
        found = launch_command_parser().parse_args(args[2:])
        if found.config_file is not None:
            load_config_from_file(str(place / found.config_file))
        count = found.num_processes
    assert found.module, args
    return Launch(count, found.training_script, list(found.training_script_args))
