"""The rules that keep the parts apart: who may import whom, in Python and in C++."""

import ast
import importlib
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lerac_fast"

# Part of the package -> the parts that it may import. Optimizers and curricula know nothing of each other, nor one
# curriculum of another; all of it may be imported by the experiments, which nothing here imports.
PYTHON_RULES = {
    "_version": set(),
    "_native": {"_built_with", "_version"},  # and _triton, at the first use of its kernels
    "_triton": {"_native"},
    "_wrappers": set(),
    "ops": {"_native"},
    "optim": {"_native"},
    "layers": {"_wrappers"},
    "lerac": {"_wrappers", "layers"},
    "cbs": {"_wrappers", "ops"},
    "data_parameters": {"ops"},
    "": {"_native", "_version", "ops", "layers", "lerac", "cbs", "data_parameters"},  # __init__.py
    "integrations": {"cbs", "data_parameters", "optim"},  # which nothing imports: each needs a library of its own
}
CXX_RULES = {
    "math": set(),
    "engine": {"math"},
    "ops": {"math"},
    "cpu": {"math", "engine", "ops"},
    "cuda": {"math", "engine", "ops"},
}


def _part(module: str) -> str:
    """`lerac_fast.optim.sgd` -> `optim`; `lerac_fast` itself -> ``."""
    return module.split(".")[1] if "." in module else ""


def _runtime_imports(tree: ast.AST) -> set[str]:
    """Modules of the package that a file imports, type-checking blocks apart."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            if module == "lerac_fast":  # its public names, or its submodules
                names = {alias.name for alias in node.names}
                found |= {f"lerac_fast.{n}" if (PACKAGE / n).exists() or n.startswith("_") else module for n in names}
            else:
                found.add(module)
        found |= _runtime_imports(node)
    return {module for module in found if module.split(".")[0] == "lerac_fast"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_python_imports(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    part = relative.parts[0].removesuffix(".py")
    part = "" if part == "__init__" else part
    imported = {_part(module) for module in _runtime_imports(ast.parse(path.read_text()))}
    assert imported <= PYTHON_RULES[part] | ({part} if part else set())


@pytest.mark.parametrize("part", CXX_RULES)
def test_cxx_includes(part: str) -> None:
    for path in (ROOT / "csrc" / part).iterdir():
        own = set(re.findall(r'#include "([a-z]+)/', path.read_text()))
        assert own <= CXX_RULES[part] | {part}, path
        system = set(re.findall(r"#include <([^>]+)>", path.read_text()))
        if part == "math" or (part == "cpu" and "kernels" in path.name):
            # Compiled once per instruction set, and by nvcc: no torch, no containers.
            assert system <= {"cmath", "cstdint", "cstring"}, path
        if part == "cuda" and "kernels" in path.name:  # compiled in seconds, and checked alone
            assert not any("/" in header for header in system), path


def test_import_needs_torch_alone() -> None:
    """The experiments' and the tests' dependencies are not loaded, nor is Triton or a GPU looked for."""
    code = """
import sys
import torch
before = set(sys.modules)
import lerac_fast, lerac_fast.optim
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(" ".join(sorted(new - set(sys.stdlib_module_names))))
print("lerac_experiments" in sys.modules, torch.cuda.is_initialized())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, experiments_and_cuda = run.stdout.splitlines()
    # What an editable install's finder loads is its own.
    assert set(loaded.split()) - {"_editable_skbc_lerac_fast"} <= {"lerac_fast", "torch", "sympy", "mpmath", "numpy"}
    assert experiments_and_cuda == "False False"


def test_no_module_imports_itself_by_way_of_others() -> None:
    imports = {
        _module(path): {_module_at(name) for name in _runtime_imports(ast.parse(path.read_text()))}
        for path in PACKAGE.rglob("*.py")
    }
    graph = {module: {other for other in others if other != module} for module, others in imports.items()}
    TopologicalSorter(graph).prepare()  # CycleError names the circle


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _module_at(name: str) -> str:
    """`name`, or the module that it is a name of."""
    path = ROOT / name.replace(".", "/")
    is_module = path.is_dir() or any(path.with_suffix(kind).exists() for kind in (".py", ".pyi"))
    return name if is_module else name.rpartition(".")[0]


# Folders, and what their files import nothing of: product knows nothing of what inspects, times or uses it, and
# benchmarks and tools nothing of each other. Tests import all of them.
STRANGERS = {
    "lerac_fast": "tests|tools|benchmarks|experiments|lerac_experiments",
    "csrc": "tests|tools|benchmarks|experiments",
    "experiments/lerac_experiments": r"tests|tools|benchmarks|experiments|lerac_fast\._\w+",
    "benchmarks": "tests|tools|experiments|lerac_experiments",
    "tools": "tests|benchmarks|experiments|lerac_experiments",
}


@pytest.mark.parametrize("folder", STRANGERS)
def test_nothing_is_imported_of_strangers(folder: str) -> None:
    taken = re.compile(
        rf'^\s*(?:from|import) (?:{STRANGERS[folder]})\b|#include "(?:{STRANGERS[folder]})/', re.MULTILINE
    )
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in (".py", ".h", ".cpp", ".cu"):
            assert not taken.findall(path.read_text()), path


def test_core_needs_torch_alone() -> None:
    """What is installed with it, and the commands that it installs."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")  # which pytest brings
    project = toml.loads((ROOT / "pyproject.toml").read_text())
    assert [requirement.split(">")[0] for requirement in project["project"]["dependencies"]] == ["torch"]
    assert "scripts" not in project["project"]
    assert project["tool"]["scikit-build"]["wheel"]["packages"] == ["lerac_fast"]


SOURCES = [
    path
    for folder in ("lerac_fast", "csrc", "experiments", "benchmarks", "examples", "tests", "tools")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".pyi", ".h", ".cpp", ".cu")
]


def test_files_are_read_in_one_sitting() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in SOURCES if (lines := _lines(path)) > 400}
    assert not long


def _lines(path: Path) -> int:
    return path.read_text().count("\n")
