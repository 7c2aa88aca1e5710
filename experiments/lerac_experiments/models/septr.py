"""SepTr, the separable transformer for spectrograms."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lerac_experiments.models.shapes import head, image_shape
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings
from lerac_fast.cbs.sites import Tokens, Where


class Attention(nn.Module):
    """Multi-head attention among all tokens of a sequence, [N, T, dim] -> [N, T, dim], with heads of any width."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = joined.permute(2, 0, 3, 1, 4)  # each [N, heads, T, head_dim]
        attended = F.scaled_dot_product_attention(queries, keys, values)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class Transformer(nn.Module):
    """One pre-norm layer with learned positions, for sequences of `length` tokens, [N, length, dim]."""

    def __init__(self, length: int, dim: int, heads: int, head_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(length, dim))
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positions
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class SeparableBlock(nn.Module):
    """A transformer among the tokens of each time column, then one among those of each frequency row.

    The class token joins every column in front, its copies are averaged, and likewise with the rows.

    Shapes: tokens [B, H, W, dim], class token [B, dim] -> the same.
    """

    def __init__(self, height: int, width: int, dim: int, heads: int, head_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.vertical = Transformer(1 + height, dim, heads, head_dim, mlp_dim)
        self.horizontal = Transformer(1 + width, dim, heads, head_dim, mlp_dim)

    def forward(self, tokens: Tensor, class_token: Tensor) -> tuple[Tensor, Tensor]:
        columns, class_token = self._attend(self.vertical, tokens.transpose(1, 2), class_token)
        return self._attend(self.horizontal, columns.transpose(1, 2), class_token)

    @staticmethod
    def _attend(transformer: nn.Module, lines: Tensor, class_token: Tensor) -> tuple[Tensor, Tensor]:
        """Lines [B, lines, T, dim], each by itself."""
        batch, count = lines.shape[:2]
        copies = class_token[:, None, None].expand(-1, count, 1, -1)
        joined = torch.cat([copies, lines], 2)
        attended = transformer(joined.flatten(0, 1)).unflatten(0, (batch, count))
        return attended[:, :, 1:], attended[:, :, 0].mean(1)


class SepTr(nn.Module):
    """SepTr of Ristea, Ionescu and Khan (2022): every cell of a spectrogram is a token.

    The number of positions, and so of parameters, grows with the sum of the sides.

    Args:
        shape: channels, height (frequencies) and width (time) of the spectrograms.
        pool: height and width of the patches that spectrograms are averaged over at first.
        dim: of tokens. Attention has `heads` of `head_dim`, the dense layers in between `mlp_dim`.
        depth: the number of blocks.
        head: [B, dim] -> logits or values.

    Shapes: [B, *shape] -> what `head` gives.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        head: nn.Module,
        *,
        dim: int = 256,
        depth: int = 3,
        heads: int = 5,
        head_dim: int = 256,
        mlp_dim: int = 256,
        pool: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        channels, height, width = shape
        sides = height // pool[0], width // pool[1]
        self.pool = nn.AvgPool2d(pool)
        self.embedding = nn.Linear(channels, dim)
        self.class_token = nn.Parameter(torch.randn(dim))
        self.blocks = nn.ModuleList(SeparableBlock(*sides, dim, heads, head_dim, mlp_dim) for _ in range(depth))
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embedding(self.pool(x).permute(0, 2, 3, 1))
        class_token = self.class_token.expand(len(x), -1)
        for block in self.blocks:
            tokens, class_token = block(tokens, class_token)
        logits: Tensor = self.head(class_token)
        return logits


def _block(parameter: str) -> str | None:
    """The embedding with the class token, each of the transformers, and the head."""
    if parameter == "class_token":
        return "embedding"
    place = re.match(r"blocks\.\d+\.(vertical|horizontal)", parameter)
    return place and place[0]


SMOOTHING: Where = {r"blocks\.\d+\.(vertical|horizontal)": Tokens(class_tokens=1)}
"""The output of each transformer, along its columns or rows; the class token is left alone."""
SMALL = {"dim": 64, "depth": 2, "heads": 2, "head_dim": 32, "mlp_dim": 64}


# Of Table 1: k 2-5, u 1-3. It gives no weight decay, so there is none.
SEPTR = ModelSpec(
    "septr",
    "SepTr",
    ("audio",),
    lambda parts, _: SepTr(image_shape(parts), head(256, parts)),
    Settings("Adam", lr=1e-4, min_lr=1e-8, batch_size=2, epochs=50, lerac_epochs=3, sigma=0.8, cbs_every=2),
    SMOOTHING,
    _block,
)

# This library's, for short trainings on a CPU.
SEPTR_SMALL = ModelSpec(
    "septr-small",
    "SepTr, small",
    ("audio",),
    lambda parts, _: SepTr(image_shape(parts), head(64, parts), pool=(8, 6), **SMALL),
    Settings("Adam", lr=1e-3, min_lr=1e-7, batch_size=16, epochs=15, lerac_epochs=2, sigma=0.8, cbs_every=1),
    SMOOTHING,
    _block,
)
