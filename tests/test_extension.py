"""A compiled module that is missing or does not fit torch says so, and says what to do."""

import importlib
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import torch

import lerac_fast
from lerac_fast._native import extension as loading

ROOT = Path(__file__).resolve().parent.parent


def test_missing_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lerac_fast._built_with", None)
    with pytest.raises(ImportError, match=rf"missing.*{torch.__version__.split('+')[0]}.*--no-build-isolation"):
        loading.load()


def test_module_of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("lerac_fast._built_with")
    other.torch_version = "1.13.1+cpu"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lerac_fast._built_with", other)
    installed = torch.__version__.split("+")[0]
    with pytest.raises(ImportError, match=rf"torch 1\.13\.1.*torch {installed}.*pip install --no-build-isolation"):
        loading.load()


def test_module_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        if name == "lerac_fast._C":
            raise ImportError("undefined symbol: _ZN3c105ErrorE")
        return importlib.import_module(name)

    monkeypatch.setattr(loading, "import_module", fail)
    with pytest.raises(ImportError, match=r"does not load.*undefined symbol.*Compile it anew"):
        loading.load()


def test_module_of_other_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which would lack what Python asks it for. Where there are no sources, as beside a wheel, nothing is compared."""
    for name in loading._INTERFACE:
        (tmp_path / "csrc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "csrc" / name).write_text("other")
    monkeypatch.setattr(loading, "_SOURCES", tmp_path / "csrc")
    with pytest.raises(ImportError, match=r"of other sources than those in .*csrc\. Compile it anew: .*pip install"):
        loading.load()
    monkeypatch.setattr(loading, "_SOURCES", tmp_path / "none")
    assert loading.load() is loading.extension


def test_threads_are_those_of_torch() -> None:
    """With an OpenMP of its own, the module would know nothing of `torch.set_num_threads`."""
    loaded = "import lerac_fast.optim; print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert len(set(re.findall(r"/\S*/lib(?:g|i)?omp\S*", maps))) == 1


def test_local_versions_of_one_torch_are_one() -> None:
    assert loading._release("2.14.1+cu130") == loading._release("2.14.1+cpu") == "2.14.1"


def test_the_version_is_that_of_the_distribution() -> None:
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert declared is not None
    assert cited is not None
    assert lerac_fast.__version__ == declared[1] == cited[1] == version("lerac_fast")


def test_build_info() -> None:
    info = lerac_fast.build_info()
    assert info["lerac_fast"] == lerac_fast.__version__
    assert info["torch"] == torch.__version__
    assert info["cpu_capability"] in info["cpu_capabilities"]
    assert set(info["gpu_backends"]) == {"cuda", "triton"}
