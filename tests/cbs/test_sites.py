"""Where CBS acts: default sites against an independent count, `where`, and tokens in all the shapes they come in."""

import re

import pytest
import torch
from torch import nn
from torchvision import models

from lerac_fast.cbs.cbs import CBS
from lerac_fast.cbs.sites import Tokens
from tests.reference import cbs as reference


def vision():
    """Every kind of convolution, named."""
    return nn.ModuleDict(
        {
            "stem": nn.Conv2d(3, 4, 7),
            "block1": nn.Sequential(nn.Conv2d(4, 4, (1, 3)), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)),
            "block2": nn.Sequential(nn.Conv1d(4, 4, 3), nn.Conv3d(4, 4, (1, 1, 2)), nn.Linear(4, 4)),
            "up": nn.ConvTranspose2d(4, 4, 3),
        }
    )


def sites(*args, **kwargs):
    with CBS(*args, **kwargs) as cbs:
        return list(cbs.sites)


# The default


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (models.resnet18, 17),
        (models.wide_resnet50_2, 17),
        (models.densenet121, 59),
        (models.vgg16, 13),
        (models.googlenet, None),
        (models.video.r3d_18, None),
    ],
)
def test_convolutions_of_torchvision_models(build, count):
    options = {"init_weights": False} if build is models.googlenet else {}
    with torch.device("meta"):
        model = build(**options)
    assert sites(model) == reference.wide_convolutions(model)
    assert count in (None, len(sites(model)))


def test_convolutions_wider_than_1_in_any_axis():
    assert sites(vision()) == ["stem", "block1.0", "block2.0", "block2.1"]


@pytest.mark.parametrize(
    ("build", "where"),
    [(models.vgg16, r"features\.(2|7|14|21|28)"), (models.vgg16_bn, r"features\.(3|10|20|30|40)")],
)
def test_the_maps_that_the_authors_smooth_in_a_vgg(build, where):
    """As documented: those of the convolution before each of the five poolings."""
    assert where in CBS.__doc__
    with torch.device("meta"):
        model = build()
    before = {}
    for name, module in model.features.named_children():
        before[type(module)] = f"features.{name}"
        if isinstance(module, nn.MaxPool2d):
            before.setdefault("poolings", []).append(before[nn.Conv2d])
    assert sites(model, where=where) == before["poolings"]
    assert len(before["poolings"]) == 5


def test_a_shared_convolution_is_one_site():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    x = torch.randn(1, 3, 6, 6)
    expected = reference.smoothed(model, 1.0, 2)(x)
    cbs = CBS(model)
    assert cbs.sites == ("0",)
    torch.testing.assert_close(model(x), expected)
    cbs.remove()
    assert sites(model, where="2") == ["2"]  # by any of its names


@pytest.mark.parametrize(
    ("wrap", "wrapped"),
    [
        (nn.DataParallel, "block1.module.0"),
        (torch.compile, "block1.0"),
        (lambda model: nn.DataParallel(torch.compile(model)), "block1.module.0"),
    ],
)
def test_names_are_those_of_the_unwrapped_model(wrap, wrapped):
    assert sites(wrap(vision()), where=r"block1\.0") == ["block1.0"]
    model = vision()
    model["block1"] = wrap(model["block1"])
    model["stem"] = torch.compile(model["stem"])
    assert sites(model)[:2] == ["stem", wrapped]


# where


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (r"block\d\.0", ["block1.0", "block2.0"]),
        (re.compile(r"BLOCK\d\.0", re.IGNORECASE), ["block1.0", "block2.0"]),
        (r"block1\.2", ["block1.2"]),  # 1x1, but asked for
        ("up", ["up"]),
        (["up", re.compile("stem")], ["stem", "up"]),
        (("up", "stem", "up"), ["stem", "up"]),
        ({"stem": None, r"block2\.2": Tokens()}, ["stem", "block2.2"]),
        (lambda name, module: isinstance(module, nn.Conv2d) and "1" in name, ["block1.0", "block1.2"]),
        (lambda name, _: Tokens() if name == "block2.2" else None, ["block2.2"]),
    ],
)
def test_where_selects(where, expected):
    assert sites(vision(), where=where) == expected


def test_patterns_match_in_full():
    with pytest.warns(UserWarning, match="nothing to smooth"):
        assert sites(vision(), where="ste") == []


def test_the_first_pattern_that_matches_counts():
    model = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1))
    x = torch.randn(2, 4, 6)
    plain = model(x)
    with CBS(model, where={"0": Tokens(axis=0, class_tokens=1), r"\d": None}):
        torch.testing.assert_close(model(x)[:1], plain[:1])


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("block1", ValueError, "'block1', a Sequential and no convolution: say with Tokens"),
        (r"block1\..*", ValueError, r"'block1\.1', a BatchNorm2d"),
        (lambda *_: True, ValueError, "'', a ModuleDict"),
        (lambda *_: "yes", TypeError, r"where\('', module\) must return .*not 'yes'"),
        ("(", ValueError, r"where='\(' is not a regular expression"),
        (["stem", 3], TypeError, "3 is not a pattern"),
        ({"stem": True}, TypeError, r"where\['stem'\] must be Tokens or None, not True"),
        (3.5, TypeError, r"not 3\.5"),
    ],
)
def test_bad_selections_are_refused(where, error, message):
    model = vision()
    with pytest.raises(error, match=message):
        CBS(model, where=where)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("model", "where", "message"),
    [
        (nn.Linear(3, 3), None, "nothing to smooth in Linear: it has no convolution wider than 1"),
        (vision(), "conv", "nothing to smooth in ModuleDict: where='conv' selects none"),
        (vision(), ["conv", "norm"], "nothing to smooth"),
        (vision(), [], "nothing to smooth"),
        (vision(), {}, "nothing to smooth"),
        (vision(), lambda *_: False, "nothing to smooth"),
        (vision(), ["conv", "stem", "ste"], "no module's name matches 'conv', 'ste'"),
    ],
)
def test_warns_of_what_has_no_effect(model, where, message):
    with pytest.warns(UserWarning, match=message) as caught:
        cbs = CBS(model, where=where)
    assert [warning.filename for warning in caught] == [__file__]
    assert cbs.active == (cbs.sites != ())
    assert "nothing to smooth" in repr(cbs) or cbs.active
    cbs.step()
    cbs.remove()
