"""The files of `trainer plan --rates`, as trainer/rates/cpu.yaml: each benchmark writes what it measured."""

from __future__ import annotations

from pathlib import Path

import yaml


def record(path: Path, machine: str, flops_per_second: dict[int, float], save_bytes_per_second: float | None) -> None:
    """Add to the file, or make it. machine: of the one process that was measured; what it measured before is kept."""
    known = yaml.safe_load(path.read_text()) if path.exists() else {"flops_per_second": {}}
    known["machine"] = machine
    known["flops_per_second"] |= {r: float(f"{rate:.3g}") for r, rate in flops_per_second.items()}
    if save_bytes_per_second is not None:
        known["save_bytes_per_second"] = float(f"{save_bytes_per_second:.3g}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(known))
