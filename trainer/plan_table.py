"""python -m trainer plan CONFIG: a plan as tables for a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from common import terminal
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.memory.estimate import gb
from trainer.memory.sharded_sizes import kept

from .machine_rates import CPU_RATES, read_rates
from .plan import Plan, Planner


def print_plan(
    path: Path,
    overrides: Sequence[str],
    nodes: int,
    gpus_per_node: int,
    images_per_second: float | None,
    rates_path: Path | None,
) -> None:
    """Plan the config at `path` on so many nodes, and print the plan.

    images_per_second: of all processes at full resolution; rates_path: the rates of a process to use instead, those of
    a CPU where it is None. Raises a UserError where config or rates are wrong.
    """
    config = load_config(GanConfig, path, overrides)
    rates = read_rates(rates_path or CPU_RATES)
    planner = Planner(config, nodes * gpus_per_node)
    plan = planner.plan(rates, images_per_second)
    speed = f"{images_per_second:g} images/s at full resolution" if images_per_second else rates.machine
    show(plan, planner.sharding_gain(plan), f"{path}, {nodes} x {gpus_per_node} processes", speed)


def show(plan: Plan, sharding_gain: str, title: str, speed: str) -> None:
    """Print a plan. sharding_gain: a sentence or two; speed: what the days are computed from, as in "at SPEED"."""
    console = terminal.console(130)
    console.print(_resolutions(plan, title))
    console.print(_bytes(plan))
    weights = " and ".join(f"{name} has {gb(network.weights)}" for name, network in plan.networks.items())
    console.print(
        f"{weights} of weights.\n"
        f"{plan.days:,.1f} days at {speed}, if {plan.processes} processes are as many times as fast as one.\n"
        f"A checkpoint has {gb(plan.state)}; all processes writing their part take {plan.saving:.1f} s.\n"
        f"{sharding_gain}",
        soft_wrap=True,
    )


def _resolutions(plan: Plan, title: str) -> Table:
    """Return a row per resolution: how long it takes, and the memory of one process under each strategy."""
    table = Table("px", "images", "batch", "GFLOP/image", "days", *(f"{s}, GB" for s in plan.sent), title=title)
    for row in plan.resolutions:
        work = [f"{row.images:,}", str(row.worst.batch_size), f"{row.flops / 1e9:,.1f}", f"{row.days:,.2f}"]
        memory = [f"{need.bytes / 1e9:.2f}" for need in row.memory.values()]
        table.add_row(str(row.worst.resolution), *work, *memory)
    return table


def _bytes(plan: Plan) -> Table:
    """Return what fills the memory of one process under each strategy, and what it sends.

    Weights, optimizer and averages are the same at every resolution; activations are not.
    """
    table = Table("", *plan.sent, title="bytes of one process")
    networks = list(plan.networks.values())
    sizes = [kept(strategy, networks, plan.processes) for strategy in plan.sent]
    table.add_row("weights", *(gb(size.weights) for size in sizes))
    table.add_row("optimizer", *(gb(size.optimizer) for size in sizes))
    table.add_row("averages", *(gb(size.averages) for size in sizes))
    for row in plan.resolutions:
        name = f"activations, gradients, buffers at {row.worst.resolution} px"
        table.add_row(name, *(gb(row.memory[strategy].activations) for strategy in plan.sent))
    table.add_row("sent in one iteration (rings)", *(gb(count) for count in plan.sent.values()))
    return table
