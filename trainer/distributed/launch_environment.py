"""What a launcher leaves in the environment of a process: refused where it is incomplete, or asks for what is not done.

A process that went on without it would train alone beside the others, or in another precision than was asked for.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

import torch

from common import shipped
from common.errors import UserError, listed

ACCELERATE = shipped.ROOT / "configs" / "accelerate"  # the launcher's configs that come with the program
OF_A_PROCESS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
OF_THE_MAIN_NODE = ("MASTER_ADDR", "MASTER_PORT")
TASKS = {  # by variable: what starts several tasks that know nothing of each other's ranks
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "an MPI launcher",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "MPI_LOCALNRANKS": "mpirun",
}
START = (
    "accelerate launch --multi_gpu --num_processes N -m trainer ... (several nodes: one such command a node, as in "
    "slurm/node.sh)"
)


def check(env: Mapping[str, str]) -> None:
    """Raise a UserError that names each variable, its value and the remedy."""
    _refuse_settings(env)
    present = [name for name in OF_A_PROCESS if env.get(name)]
    if present:
        _check_complete(env, present)
    else:
        _refuse_tasks_without_rank(env)
        _refuse_single_of_many(env)


def _check_complete(env: Mapping[str, str], present: list[str]) -> None:
    """Raise a UserError where the variables of a launcher are not all there, or are no numbers."""
    lines = [f"{name}: not set" for name in (*OF_A_PROCESS, *OF_THE_MAIN_NODE) if not env.get(name)]
    numbers = [name for name in (*OF_A_PROCESS, "MASTER_PORT") if env.get(name)]
    lines += [f"{name}: {env[name]!r} is no number" for name in numbers if not env[name].isdecimal()]
    if not lines:
        lines += _unreachable(env["MASTER_ADDR"], int(env["MASTER_PORT"]))
    if not lines and int(env["RANK"]) >= int(env["WORLD_SIZE"]):
        lines.append(f"RANK: {env['RANK']} is not below WORLD_SIZE: {env['WORLD_SIZE']}")
    if lines:
        given = ", ".join(f"{name}={env[name]}" for name in present)
        raise listed(
            f"{given}: these say that a launcher started this process, but",
            [*lines, f"left by another program? then: unset {' '.join(present)}", f"else start with: {START}"],
        )


def _unreachable(address: str, port: int) -> list[str]:
    """List what makes the main node's address one that nobody can connect to."""
    lines = [] if 0 < port < 2**16 else [f"MASTER_PORT: {port} is not between 1 and 65535"]
    try:
        socket.getaddrinfo(address, None)
    except (OSError, UnicodeError) as error:
        lines.append(f"MASTER_ADDR: {address!r} is no host that this one knows ({error})")
    return lines


def _refuse_tasks_without_rank(env: Mapping[str, str]) -> None:
    """Raise a UserError where several tasks were started, of which each would train alone."""
    for name, launcher in TASKS.items():
        if env.get(name, "").isdecimal() and int(env[name]) > 1:
            raise UserError(
                f"{name}: {env[name]} tasks were started by {launcher}, and this one has no RANK, WORLD_SIZE and "
                f"LOCAL_RANK; start one task a node, and in it: {START}; or submit slurm/train_1024.sh (was it left "
                f"by another job's step? then: unset {name})"
            )


def _refuse_single_of_many(env: Mapping[str, str]) -> None:
    """Raise a UserError where `accelerate launch` was asked for several processes and started one.

    It does so without --multi_gpu, and on a CPU. Only its way to start one sets ACCELERATE_USE_CPU, and only where more
    were asked for does that set the main node.
    """
    if "ACCELERATE_USE_CPU" in env and all(env.get(name) for name in OF_THE_MAIN_NODE):
        raise UserError(
            f"MASTER_ADDR: {env['MASTER_ADDR']} is set and RANK is not: accelerate was asked for several processes or "
            "nodes, and starts one without --multi_gpu; add --multi_gpu, also on a CPU, or leave --num_processes out "
            f"(set by another program? then: unset {' '.join(OF_THE_MAIN_NODE)})"
        )


def _refuse_settings(env: Mapping[str, str]) -> None:
    """Raise a UserError where `accelerate launch`, or its default config, asks for what a setting of the run does."""
    for name, strategy in (("FSDP", "fsdp2"), ("DEEPSPEED", "zero1")):
        if _is_on(env, f"ACCELERATE_USE_{name}"):
            raise UserError(
                f"--use_{name.lower()}: the launcher only starts processes here, what they split is the run's own "
                f"setting; leave it out ({ACCELERATE} has files without it) and set strategy={strategy}"
            )
    precision = env.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    for option, asked, remedy in (
        ("mixed_precision", precision if precision != "no" else "", "set autocast=bfloat16"),
        ("dynamo_backend", _dynamo(env), "set compile=true (stage 2)"),
        ("gradient_accumulation_steps", _accumulation(env), "set micro_batch"),
        ("use_megatron_lm", _flag(env, "ACCELERATE_USE_MEGATRON_LM"), "set strategy"),
        ("use_parallelism_config", _flag(env, "ACCELERATE_USE_PARALLELISM_CONFIG"), "set strategy"),
        ("cpu", _flag(env, "ACCELERATE_USE_CPU") if torch.cuda.is_available() else "", "set device=cpu"),
    ):
        if asked:
            raise UserError(
                f"--{option}: the launcher asks for {asked}, which is the run's own setting here; leave it out, also "
                f"of accelerate's default config (--config_file {ACCELERATE}/cpu.yaml, or gpu.yaml, names another), "
                f"and {remedy}"
            )


def _is_on(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "false").lower() in ("true", "1", "yes")


def _flag(env: Mapping[str, str], name: str) -> str:
    return "it" if _is_on(env, name) else ""


def _dynamo(env: Mapping[str, str]) -> str:
    backend = env.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    return "" if backend == "no" else backend


def _accumulation(env: Mapping[str, str]) -> str:
    steps = env.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    return "" if steps in ("1", "auto") else steps
