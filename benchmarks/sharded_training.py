"""A training step of a transformer under FSDP2, by optimizers of one group and of a group per layer.

Rank 0 times; the other ranks follow: it tells them which contender's turn it is.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

import lerac_fast.optim
from lerac_fast import LeRaC, layer_groups, layer_order

LAYERS = 24
CLASSES = 100
_STOP = -1


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int = LAYERS) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, max(1, width // 64), 4 * width, 0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def contenders(
    width: int, batch: tuple[int, int], device: str = "cpu", precision: torch.dtype = torch.float32
) -> dict[str, Callable[[], object]]:
    """All of them train one model, sharded over the ranks, each with its own states.

    Args:
        batch: sequences of a rank, and their length.
        precision: of the forward and backward pass; the shards are float32.
    """
    torch.manual_seed(0)
    model = Transformer(width).to(device)
    tokens = torch.randint(0, CLASSES, batch).to(device)
    order = layer_order(model, example_inputs=tokens)
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=precision)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)

    def train(optimizer: torch.optim.Optimizer, curriculum: LeRaC | None = None) -> Callable[[], object]:
        def step() -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(tokens).float(), tokens[:, 0]).backward()
            optimizer.step()
            if curriculum is not None:
                curriculum.step()

        return step

    def per_layer() -> list[dict[str, object]]:
        return layer_groups(model, order=order)

    ours, torchs = lerac_fast.optim.AdamW, torch.optim.AdamW
    with_lerac = ours(per_layer(), lr=1e-6)
    return {
        "group per layer": train(ours(per_layer(), lr=1e-6)),
        "group per layer, LeRaC": train(with_lerac, LeRaC(with_lerac, 10**6, 1e-9)),
        "one group": train(ours(model.parameters(), lr=1e-6)),
        "torch fused, one group": train(torchs(model.parameters(), lr=1e-6, fused=True)),
        "torch foreach, group per layer": train(torchs(per_layer(), lr=1e-6, foreach=True)),
    }


@contextmanager
def led(ranks: int, store: str, make: Callable[[], dict[str, Callable[[], object]]]) -> Iterator[dict]:
    """The contenders of `make`, which must be a function of a module: on `ranks` processes, of which this is the first.

    A call of one of them is a turn of all ranks.
    """
    processes = [
        multiprocessing.get_context("spawn").Process(target=_follow, args=(rank, ranks, store, make), daemon=True)
        for rank in range(1, ranks)
    ]
    for process in processes:
        process.start()
    threads = torch.get_num_threads()
    _join(0, ranks, store)
    try:
        steps = make()
        yield {name: lambda i=i, step=step: (_announce(i), step()) for i, (name, step) in enumerate(steps.items())}
        _announce(_STOP)
        for process in processes:
            process.join()
    finally:
        torch.set_num_threads(threads)
        distributed.destroy_process_group()


def _follow(rank: int, ranks: int, store: str, make: Callable[[], dict[str, Callable[[], object]]]) -> None:
    _join(rank, ranks, store)
    steps = list(make().values())
    while (turn := _announce()) != _STOP:
        steps[turn]()
    distributed.destroy_process_group()


def _join(rank: int, ranks: int, store: str) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // ranks))
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)


def _announce(turn: int = 0) -> int:
    """Whose turn it is, by rank 0."""
    told = torch.tensor(turn)
    if distributed.get_world_size() > 1:
        distributed.broadcast(told, src=0)
    return int(told)
