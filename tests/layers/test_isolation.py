"""The measurement leaves no trace in the model or the process, and says what has become of a child that ends."""

import copy
import os
import random
import signal
import threading
import time
import types
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from lerac_fast import layer_groups
from lerac_fast.layers import _isolation
from lerac_fast.layers._isolation import ChildEndedError, NoChildError, in_a_child
from lerac_fast.layers._traces import left_as_found, living
from tests.layers import models

X = torch.zeros(2, 4)


def no_fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")


@pytest.fixture(params=[True, False], ids=["fork", "no fork"])
def forking(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(os, "fork", no_fork)
    return request.param


def test_a_model_that_remembers_is_left_as_it_was(forking):
    models.remembered_grid.cache_clear()
    model = models.Remembers()
    if not forking:
        with pytest.raises(RuntimeError, match="the model cannot be copied: read-only"):
            layer_groups(model, example_inputs=X)
        model.config = {"width": 4}
    config = model.config
    others = living(FakeTensor)  # of other tests
    numpy_stream = np.random.get_state()[1].copy()  # noqa: NPY002
    streams = random.getstate(), torch.get_rng_state(), model.generator.get_state()

    (group,) = layer_groups(model, example_inputs=X)
    assert group["params"] == [model.linear.weight, model.linear.bias]

    assert model.config is config
    assert config == {"width": 4}
    assert model.counts == Counter(calls=3)
    assert not model.recent
    assert model.memo == {"nested": {}}
    assert vars(model.plain) == {"last": None, "calls": 0}
    assert random.getstate() == streams[0]
    assert (np.random.get_state()[1] == numpy_stream).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), streams[1])
    assert torch.equal(model.generator.get_state(), streams[2])
    assert not {id(tensor) for tensor in living(FakeTensor)} - {id(tensor) for tensor in others}

    # What functions remember is not of the pass: the model trains.
    y = model(X)
    y.sum().backward()
    assert not isinstance(y, FakeTensor)
    assert model.linear.weight.grad.shape == (8, 4)


def test_after_the_real_pass_too():
    models.remembered_grid.cache_clear()

    class Peeks(models.Remembers):
        def forward(self, x):
            return super().forward(x * float(x.sum() + 1))

    model = Peeks()
    layer_groups(model, example_inputs=X)
    model(X).sum().backward()
    assert vars(model.plain)["calls"] == 1


def test_threads_that_have_run_do_not_stop_the_child():
    size = 700
    torch.mm(torch.ones(size, size), torch.ones(size, size))  # OpenMP's threads exist now
    threads, seen = torch.get_num_threads(), in_a_child(lambda: float(torch.mm(torch.eye(size), torch.eye(size)).sum()))
    assert seen == size
    assert torch.get_num_threads() == threads


def test_what_the_child_prints_and_changes_is_not_seen(capfd):
    values = [1]

    def function():
        print("loud", flush=True)
        os.write(2, b"louder")
        values.append(2)
        return values

    assert in_a_child(function) == [1, 2]
    assert values == [1]
    assert capfd.readouterr() == ("", "")


def test_errors_come_back_with_the_traceback_of_the_child():
    class OfMine(Exception):
        pass

    def fail(error):
        raise error

    with pytest.raises(KeyError, match="width") as caught:
        in_a_child(lambda: fail(KeyError("width")))
    assert "in fail" in str(caught.value.__cause__)
    with pytest.raises(RuntimeError, match="OfMine: told"):
        in_a_child(lambda: fail(OfMine("told")))


def test_a_child_that_dies_is_named():
    with pytest.raises(ChildEndedError, match="SIGKILL"):
        in_a_child(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_child_that_waits_for_a_lock_of_its_parent_is_ended(monkeypatch):
    monkeypatch.setattr(_isolation, "IDLE_SECONDS", 2)
    lock = threading.Lock()
    with lock, pytest.raises(ChildEndedError, match="has done nothing for 2 s"):
        in_a_child(lock.acquire)


def test_an_interrupt_ends_the_child(monkeypatch):
    monkeypatch.setattr(_isolation, "_receive", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    children = []
    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: children.append(fork()) or children[-1])
    with pytest.raises(KeyboardInterrupt):
        in_a_child(lambda: time.sleep(1000))
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_without_a_child_control_flow_on_values_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(os, "fork", no_fork)
    with pytest.raises(NoChildError, match="temporarily unavailable"):
        in_a_child(list)
    model = models.DataDependent("item")
    before = dict(model.named_parameters())
    with pytest.raises(RuntimeError, match="cannot run on real tensors") as caught:
        layer_groups(model, example_inputs=X)
    assert "temporarily unavailable" in str(caught.value)
    assert all(dict(model.named_parameters())[name] is parameter for name, parameter in before.items())


def test_without_a_child_what_is_kept_outside_of_the_model_is_reported(monkeypatch):
    monkeypatch.setattr(os, "fork", no_fork)
    kept = []

    class Keeps(nn.Linear):
        def forward(self, x):
            kept.append(super().forward(x))
            return kept[-1]

    with pytest.raises(RuntimeError, match="keeps 1 tensors outside of the model"):
        layer_groups(Keeps(4, 2), example_inputs=X)


def test_what_a_measurement_in_this_process_changes_is_put_back():
    model = models.Remembers()
    model.order = types.SimpleNamespace()
    found = copy.copy(model.__dict__)
    with left_as_found(model):
        model.counts.update(calls=5, others=2)
        model.recent.append(X)
        model.memo["nested"]["y"] = X
        model.memo["new"] = {}
        model.added = 3
    assert model.__dict__ == found
    assert model.counts == Counter(calls=3)
    assert not model.recent
    assert model.memo == {"nested": {}}


def test_a_forward_pass_that_communicates_is_refused(tmp_path):
    class Gathers(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            torch.distributed.all_reduce(y)
            return y

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with pytest.raises(
            RuntimeError, match=r"communicates with other processes .* measure the model by layer_order"
        ):
            layer_groups(Gathers(4, 2), example_inputs=X)
    finally:
        torch.distributed.destroy_process_group()
