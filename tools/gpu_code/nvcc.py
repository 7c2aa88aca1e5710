"""Compiles the CUDA kernels ahead of time."""

import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tools.gpu_code import sass
from tools.gpu_code.machine_code import Kernel
from tools.gpu_code.targets import Target

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/gpu_code"
# As CMakeLists.txt compiles them.
FLAGS = ["-std=c++20", "-O3", "-fmad=false"]

_TEMPLATE = re.compile(r"^(?:void )?(?:\w+::|\(anonymous namespace\)::)*(\w+)(?:<(.*)>)?\(.*\)$")


def absence() -> str | None:
    """Why nothing can be compiled, or None."""
    return None if shutil.which("nvcc") else "nvcc was not found"


def compile_kernels(operation: str, target: Target) -> dict[tuple[str, tuple[str, ...]], Kernel]:
    """The kernels of csrc/cuda/<operation>_kernels.cu, by name and template arguments."""
    cubin = BUILD / f"{operation}.{target.name}.{_hash(operation)}.cubin"
    if not cubin.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = cubin.with_suffix(f".{os.getpid()}")
        source = ROOT / f"csrc/cuda/{operation}_kernels.cu"
        command = ["nvcc", *FLAGS, "-cubin", f"-arch={target.name}", f"-I{ROOT / 'csrc'}", str(source)]
        run = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True)
        if run.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {run.stderr.strip()}")
        unfinished.rename(cubin)
    [listing] = sass.disassemble([cubin.read_bytes()], target, BUILD / "sass")
    kernels = sass.read(listing)
    names = subprocess.run(["c++filt"], input="\n".join(kernels), check=True, capture_output=True, text=True).stdout
    return {_parse(name): kernel for name, kernel in zip(names.splitlines(), kernels.values(), strict=True)}


@cache
def _hash(operation: str) -> str:
    """Of all that its kernels are compiled from."""
    version = subprocess.run(["nvcc", "--version"], check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256(f"{version}{FLAGS}".encode())
    for file in (*sorted((ROOT / "csrc").rglob("*.h")), ROOT / f"csrc/cuda/{operation}_kernels.cu"):
        digest.update(f"{file}".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _parse(name: str) -> tuple[str, tuple[str, ...]]:
    """("update_rows", ("Adam", "float", ...)) of what the compiler calls it."""
    match = _TEMPLATE.match(name)
    assert match, f"{name}: is this a kernel?"
    arguments, depth = [""], 0
    for character in match[2] or "":
        depth += (character == "<") - (character == ">")
        if character == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += character
    return match[1], tuple(argument.strip().rsplit("::", 1)[-1] for argument in arguments)
