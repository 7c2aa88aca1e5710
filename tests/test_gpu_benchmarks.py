"""The benchmarks for GPUs are collected and run; without a GPU, on the CPU and in tiny sizes."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import history

ROOT = Path(__file__).parents[1]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    # pytest-benchmark refuses to time in a worker of pytest-xdist, and takes this process for one by its environment.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_roofline_on_the_cpu() -> None:
    environment = os.environ | {"LERAC_FAST_GPU_BENCH_ON": "cpu"}
    command = [sys.executable, "-m", "benchmarks.gpu.roofline"]
    table = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    for case in ("gradients in a bucket", "loss, backward", "smoothing", "bfloat16"):
        assert case in table


def test_all_are_collected() -> None:
    done = run("benchmarks/gpu", "--collect-only")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("bench_step", "bench_host_cost", "bench_training_step", "bench_smoothing", "bench_loss"):
        for backend in ("cuda", "triton"):
            assert f"::{name}[{backend}" in done.stdout


def test_the_cheapest_run_on_the_cpu(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    timed = ["bench_optimizer_step.py::bench_host_cost", "bench_ops.py::bench_loss"]
    timed = [f"benchmarks/gpu/{name}" for name in timed]
    done = run(*timed, f"--benchmark-json={record}", LERAC_FAST_GPU_BENCH_ON="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 passed" in done.stdout
    assert "the host's part" in done.stdout
    rows = history.read(record)  # a record as pytest-benchmark writes it
    assert {row.machine for row in rows} == {"tiny, on the CPU"}
    assert all(row.median_s > 0 for row in rows)
    assert sum(row.rounds is not None and row.host_median_s is not None for row in rows) == 15  # of the subjects
