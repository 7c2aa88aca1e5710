"""Prints what CMakeLists.txt needs to know of the installed torch, as a CMake list."""

from pathlib import Path

import torch

abi = int(torch.compiled_with_cxx11_abi())
print(torch.__version__, Path(torch.__file__).parent, abi, torch.version.cuda or "OFF", sep=";")
