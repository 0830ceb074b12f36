"""benchmarks/gpu.sh on the CPU, at a tiny size: what it prints and leaves behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import gpu

ROOT = Path(__file__).parents[2]


def gpu_sh(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *map(str, arguments)]
    own = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | env
    return subprocess.run(command, capture_output=True, text=True, env=own, timeout=300)


def test_parts_print_as_they_end_and_leave_a_table_and_rates(tmp_path: Path) -> None:
    done = gpu_sh(tmp_path / "out", "--device", "cpu", "--tiny", "--parts", "256px,tests")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("256px took") < done.stdout.index("tests took")
    table = [line for line in (tmp_path / "out" / "table.md").read_text().splitlines() if line.startswith("| 256")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert [(row[2], row[3]) for row in cells] == [("exact", "none"), ("fast", "none"), ("fast", "bfloat16")]
    for row in cells:
        assert float(row[5]) * float(row[6]) == pytest.approx(2, rel=0.6)  # images/s times s/iteration is the batch
        assert row[8].partition("%")[0].isdecimal()
    assert all(line in done.stdout for line in table)
    rates = yaml.safe_load((tmp_path / "out" / "rates.yaml").read_text())
    assert set(rates["flops_per_second"]) == {256}
    assert rates["machine"].endswith("float32")
    if not torch.cuda.is_available():
        assert "finds no CUDA GPU" in done.stdout
        assert "exit code 2" in done.stdout


def test_a_setting_that_fails_costs_its_row_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), "--device", "cpu", "--parts", "speed,compile"])
    gpu.main()
    shown = capsys.readouterr().out
    assert shown.count("failed: 64 px") == 5
    assert shown.count("failed: 1024 px") == 2
    assert "compile took" in shown
    assert not (tmp_path / "table.md").exists()


def test_wrong_words_are_named(tmp_path: Path) -> None:
    assert "error: name a folder for the results" in gpu_sh().stderr
    assert "there are speed, tests, bf16, 256px, compile" in gpu_sh(tmp_path, "--parts", "all").stderr
    if shutil.which("nvidia-smi") is None:
        assert "this machine has no NVIDIA driver" in gpu_sh(tmp_path).stderr
    (tmp_path / "wheels").mkdir()
    assert "holds no wheels" in gpu_sh(tmp_path / "out", WHEELS=str(tmp_path / "wheels")).stderr
