"""Models of one's own: how they are found, called and told apart, and what is said of those that cannot be used."""

import importlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from experiments.tests.models.samples import CLASSES, VOCABULARY, parts_of, sample_parts, text
from lerac_experiments.data.source import Kind, Parts
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models.registry import find_model
from lerac_experiments.models.smoothing import smoothing_of
from lerac_experiments.own_code.functions import given, options_of
from lerac_experiments.own_code.source import Returning, digest
from lerac_fast.cbs.sites import Tokens

SOURCE = """
from torch import nn

def asked(input_shape, channels, classes, num_classes, vocabulary, max_length, task, more=1):
    model = nn.Linear(1, 1)
    model.got = (input_shape, channels, classes, num_classes, vocabulary, max_length, task, more)
    return model

class Net(nn.Linear):
    def __init__(self, classes):
        super().__init__(3 * 8 * 8, classes)

    def forward(self, x):
        return super().forward(x.flatten(1))

NUMBER = 3

def number(): return 3
def itself(): return Net
KEPT = nn.Linear(1, 1)
def kept(): return KEPT
def empty(): return nn.Identity()
def unknown(size): ...
def fails(classes):
    width = "a"
    return nn.Linear(width * classes, classes)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("image", ((3, 8, 8), 3, CLASSES, CLASSES, VOCABULARY, None, "classification", 5)),
        ("text", ((128,), 128, CLASSES, CLASSES, VOCABULARY, 128, "classification", 5)),
        ("detection", ((3, None, None), 3, 1 + CLASSES, 1 + CLASSES, None, None, "detection", 5)),
    ],
)
def test_a_function_gets_what_it_has_parameters_for(source: Path, kind: Kind, expected: tuple[Any, ...]) -> None:
    model: Any = find_model(f"{source}:asked,more=5").make(sample_parts(kind), None)
    assert model.got == expected


def test_a_class_is_a_function(source: Path) -> None:
    parts = parts_of(torch.randn(2, 3, 8, 8))
    model = find_model(f"{source}:Net").make(parts, None)
    assert model(parts.train.__getitems__([0, 1]).inputs).shape == (2, CLASSES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", r"has no nope: it has asked, Net, number, itself, kept, empty, unknown, fails"),
        ("NUMBER", "NUMBER is no function but int 3"),
        ("number", "must return an nn.Module, and returned 3"),
        ("itself", "returned the class Net itself, and not an object of it"),
        ("empty", "the Identity has no parameters to be trained"),
        ("unknown", r"its parameter 'size' is none of input_shape, channels, .*: give it a default, or a value as"),
        ("Net,depth=3", "has no parameter 'depth': it has classes"),
        ("fails", r"TypeError: .* \(.*model.py, line 26: return nn.Linear\(width \* classes, classes\)\)"),
    ],
)
def test_what_is_wrong_is_said(source: Path, name: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        find_model(f"{source}:{name}").make(sample_parts("image"), None)


def test_each_call_makes_a_model(source: Path) -> None:
    """Otherwise a trial would go on with the weights of the one before it."""
    spec, parts = find_model(f"{source}:kept"), sample_parts("image")
    kept = spec.make(parts, None)
    with pytest.raises(ExperimentError, match="kept returned the same Linear before: make a new one in each call"):
        spec.make(parts, None)
    del kept


def test_a_source_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    parts, path = sample_parts("image"), tmp_path / "model.py"
    with pytest.raises(ExperimentError, match=f"there is no file {path}"):
        find_model(f"{path}:make").make(parts, None)
    for content, message in (
        ("def make(:", r"SyntaxError: .* \(.*model.py, line 1\)"),
        ("\nimport nothing_of_this_name", r"ModuleNotFoundError: .*nothing_of_this_name.* line 2: import"),
    ):
        path.write_text(content)
        with pytest.raises(ExperimentError, match=message):
            find_model(f"{path}:make").make(parts, None)
    with pytest.raises(ExperimentError, match=r"there is no module json\.of_this_name"):
        find_model("json.of_this_name:make").make(parts, None)


def test_an_edited_source_is_imported_anew_with_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a second, too, and of the same size: by these Python knows what it has compiled."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    beside = tmp_path / "sizes_beside.py"
    beside.write_text("WIDTH = 4\n")
    times = (beside.stat().st_atime, beside.stat().st_mtime)
    path = tmp_path / "model.py"
    path.write_text(
        "from torch import nn\n\ndef make():\n    import sizes_beside as s\n    return nn.Linear(2, s.WIDTH)\n"
    )
    (tmp_path / "unrelated.py").write_text("")
    spec = find_model(f"{path}:make")
    assert spec.fingerprint is not None

    def made() -> tuple[str, int]:
        model: Any = spec.make(sample_parts("image"), None)
        assert spec.fingerprint is not None
        return spec.fingerprint(), model.out_features

    first, width = made()
    assert width == 4
    (tmp_path / "unrelated.py").write_text("import this_is_not_imported\n")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # as git may
    assert made() == (first, 4)
    beside.write_text("WIDTH = 5\n")
    os.utime(beside, times)
    second, width = made()
    assert width == 5
    assert second != first


def test_files_of_one_name_in_several_folders(tmp_path: Path) -> None:
    """Each is imported with what lies beside it."""
    specs = []
    for width in (4, 5):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "layers_beside.py").write_text(f"WIDTH = {width}\n")
        path = folder / "model.py"
        path.write_text("import torch\nimport layers_beside as s\ndef make(): return torch.nn.Linear(2, s.WIDTH)\n")
        specs.append(find_model(f"{path}:make"))
    for _ in range(2):
        models: list[Any] = [spec.make(sample_parts("image"), None) for spec in specs]
        assert [model.out_features for model in models] == [4, 5]


def test_packages_count_with_what_they_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_package"
    (package / "nets").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "nets" / "__init__.py").write_text("")
    (package / "parts.py").write_text("WIDTH = 4\n")
    (package / "nets" / "small.py").write_text(
        "from torch import nn\nfrom ..parts import WIDTH\n\ndef make():\n    return nn.Linear(2, WIDTH)\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = find_model("own_package.nets.small:make")
    assert spec.fingerprint is not None
    try:
        before = spec.fingerprint()
        model: Any = spec.make(sample_parts("image"), None)
        assert model.out_features == 4
        (package / "parts.py").write_text("WIDTH = 5\n")
        assert spec.fingerprint() != before
        with pytest.raises(ExperimentError, match="was edited after it was imported: start Python anew"):
            spec.make(sample_parts("image"), None)
    finally:
        for name in [name for name in sys.modules if name.startswith("own_package")]:
            del sys.modules[name]


SCALE = 2
SIZES = {"width": 3}
TABLE = torch.zeros(2)


def helper(value: int) -> int:
    return value * SCALE


def uses_helper(classes: int) -> nn.Module:
    return nn.Linear(1, helper(classes))


def test_the_source_of_a_given_function_is_all_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(uses_helper)
    assert digest(uses_helper) == before
    monkeypatch.setitem(uses_helper.__globals__, "SCALE", 3)
    scaled = digest(uses_helper)
    monkeypatch.setitem(uses_helper.__globals__, "helper", lambda value: value + 1)
    assert len({before, scaled, digest(uses_helper)}) == 3

    def enclosing(width: int) -> Any:
        return lambda classes: nn.Linear(width, classes)

    assert digest(enclosing(3)) != digest(enclosing(4))
    assert digest(partial(uses_helper, classes=1)) != digest(partial(uses_helper, classes=2))
    typed: dict[str, Any] = {}
    exec("def a(): return 1\ndef b(): return 2", typed)
    assert digest(typed["a"]) != digest(typed["b"])


def test_what_a_given_function_refers_to_is_part_of_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refers() -> Any:
        return SIZES["width"], TABLE, nn.Linear

    names = refers.__globals__
    digests = [digest(refers)]
    for name, value in (("SIZES", {"width": 4}), ("TABLE", torch.ones(2)), ("SIZES", {"width": [4, 5]})):
        monkeypatch.setitem(names, name, value)
        digests.append(digest(refers))
    assert len(set(digests)) == len(digests)
    # A module beside a notebook, which is edited.
    path = tmp_path / "own_beside.py"
    path.write_text("def width(): return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(names, "TABLE", importlib.import_module("own_beside"))
    before = digest(refers)
    assert digest(refers) == before
    path.write_text("def width(): return 4\n")
    assert digest(refers) != before


def test_given_datasets_are_known_by_their_content() -> None:
    one, same, other = ([(torch.ones(2) * value, 1)] for value in (1.0, 1.0, 2.0))
    assert digest(Returning(one)) == digest(Returning(same)) != digest(Returning(other))
    assert given(Returning(one)) == given(Returning(same)) != given(Returning(other))


def test_given_functions_stand_for_themselves() -> None:
    assert given(nn.Linear) == "torch.nn.modules.linear:Linear"
    name = given(lambda classes: nn.Linear(3, classes))
    assert name.startswith("python:function_")
    model: Any = find_model(name).make(sample_parts("image"), None)
    assert model.out_features == CLASSES
    with pytest.raises(ExperimentError, match=r"python:other is a function that a program has given to compare\(\)"):
        find_model("python:other").make(sample_parts("image"), None)


def _build(function: Any, parts: Parts) -> tuple[nn.Module, Any]:
    spec = find_model(given(function))
    model = spec.make(parts, None)
    return model, spec.sites(model)


class Recurrent(nn.Module):
    def __init__(self, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 4)
        self.gru = nn.GRU(4, 4, batch_first=True)
        self.head = nn.Linear(4, classes)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, None]:
        return self.head(self.gru(self.embedding(inputs["input_ids"]))[0].mean(1)), None


def test_where_cbs_acts_is_found() -> None:
    model, sites = _build(Recurrent, parts_of(text()))
    assert sites == {"gru": Tokens()}
    assert model(text()).shape == (2, CLASSES), "the first of a tuple"
    layer = nn.TransformerEncoderLayer(4, 2, 8)
    _, sites = _build(lambda: nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), sample_parts("image"))
    assert sites == {rf"layers\.{number}": Tokens(axis=0, padding="src_key_padding_mask") for number in range(2)}
    vision = torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 8)
    assert smoothing_of(vision) == {r"encoder\.layers\.encoder_layer_0": Tokens(class_tokens=1, grid=(2, 2))}
    _, sites = _build(lambda: nn.Conv2d(3, 3, 3), sample_parts("image"))
    assert sites is None

    def says_it() -> nn.Module:
        model: Any = nn.Sequential(nn.Linear(2, 2))
        model.smoothing = "0"
        return model

    assert _build(says_it, sample_parts("image"))[1] == "0"


def test_a_model_of_transformers_is_fed_by_names() -> None:
    def make(vocabulary: int, classes: int) -> nn.Module:
        from transformers import BertConfig, BertForSequenceClassification

        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        return BertForSequenceClassification(BertConfig(vocab_size=vocabulary, num_labels=classes, **sizes))

    model, sites = _build(make, parts_of(text()))
    assert model(text()).shape == (2, CLASSES)
    assert list(sites) == [r"model\.bert\.encoder\.layer\.0"]


def test_titles_are_short_and_differ() -> None:
    specs = ["model.py:make", *(f"/a/{'long/' * 9}net.py:make,width={width}" for width in (3, 4))]
    specs += [f"transformers:bert,{'hidden_size=16,' * 3}num_hidden_layers={layers}" for layers in (1, 2)]
    titles = [find_model(spec).title for spec in specs]
    assert titles[0] == "model.py:make"
    assert len(set(titles)) == len(titles)
    for title, start in zip(titles[1:], ["net.py:make #"] * 2 + ["transformers:bert #"] * 2, strict=True):
        assert title.startswith(start)


def test_options() -> None:
    assert options_of("a/b,c.py:make,x=3,y=1e-3,z,name=gelu,sizes=(1,2),off=false") == (
        "a/b,c.py:make",
        {"x": 3, "y": 1e-3, "z": True, "name": "gelu", "sizes": (1, 2), "off": False},
    )


def test_files_of_a_library_s_model_count(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"1")

    def contents() -> list[str | None]:
        options = ("", ",pretrained")
        specs = [f"transformers:{tmp_path}{each}" for each in options]
        found = [find_model(each).fingerprint for each in (*specs, f"timm:resnet10t,checkpoint_path={weights}")]
        return [None if each is None else each() for each in found]

    first = contents()
    assert contents() == first
    weights.write_bytes(b"22")
    second = contents()
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False, False]
    (tmp_path / "config.json").write_text('{"more": 1}')
    assert [a == b for a, b in zip(second, contents(), strict=True)] == [False, False, True]
    assert find_model("timm:resnet10t").fingerprint is None
