"""A process is killed while a sharded checkpoint is saved: the one before stays good, the incomplete one is refused."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import checkpoint
from torch.distributed.checkpoint import CheckpointException, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from tests.optim.cases import Case
from tests.optim.distributed.test_resharding import (
    FLAT,
    Layout,
    Training,
    Values,
    assert_same,
    build,
    recipes,
    train,
    uninterrupted,
    values,
)
from tests.processes import IS_TORCH_2_9, Processes

TRAINING = Training(Case("AdamW", {"weight_decay": 0.3}))
LAYOUT = Layout(2, "FSDP2", "layers")


class KilledWriter(FileSystemWriter):
    """Its process kills itself: when it has written its tensors, or, of rank 0, when all have."""

    def __init__(self, folder: str, method: str) -> None:
        super().__init__(folder)
        self._method = method

    def write_data(self, *args: Any) -> Any:
        written = super().write_data(*args)
        written.wait()
        return self._unless_killed("write_data", written)

    def finish(self, *args: Any, **kwargs: Any) -> None:
        self._unless_killed("finish", None)
        super().finish(*args, **kwargs)

    def _unless_killed(self, method: str, value: Any) -> Any:
        if method == self._method:
            os.kill(os.getpid(), signal.SIGKILL)
        return value


def _killed_while_saving(rank: int, folder: str, killed: int, method: str) -> None:
    net, optimizer = build(TRAINING.case, LAYOUT, ())
    train(net, optimizer, range(3))
    recipes()["save"](f"{folder}/earlier", net, optimizer)
    train(net, optimizer, range(3, 4))
    state = {"optimizer": get_optimizer_state_dict(net, optimizer, options=FLAT)}
    writer = KilledWriter(f"{folder}/incomplete", method if rank == killed else "")
    checkpoint.save(state, storage_writer=writer)


def _refuse_the_incomplete_and_go_on(_: int, folder: str) -> Values:
    net, optimizer = build(TRAINING.case, LAYOUT, ())
    recipes()["load"](f"{folder}/earlier", net, optimizer)
    with pytest.raises(FileNotFoundError, match=r"incomplete/\.metadata"):
        recipes()["load"](f"{folder}/incomplete", net, optimizer)
    says = r"metadata is not None" if IS_TORCH_2_9 else r"incomplete/\.metadata"
    with pytest.raises(CheckpointException, match=f"(?s){says}"):
        checkpoint.load({"optimizer": {}}, checkpoint_id=f"{folder}/incomplete")
    train(net, optimizer, range(3, 6))  # nothing of it was applied
    return values(net, optimizer)


@pytest.mark.parametrize(("killed", "method"), [(1, "write_data"), (0, "finish")])
def test_a_process_is_killed_while_a_checkpoint_is_saved(
    two: Processes, tmp_path: Path, killed: int, method: str
) -> None:
    with pytest.raises(AssertionError, match=rf"rank {killed} has died|rank {1 - killed} of 2"):
        two.run(_killed_while_saving, str(tmp_path), killed, method)
    assert [*(tmp_path / "incomplete").glob("*.distcp")]  # some of it was written
    expected = uninterrupted(TRAINING, LAYOUT, LAYOUT)
    for found in two.run(_refuse_the_incomplete_and_go_on, str(tmp_path)):
        assert_same(found, expected, ())
