"""SepTr: which tokens see which, and a slow reference."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lerac_experiments.models.septr import SeparableBlock, SepTr, Transformer


def _septr(height: int = 5, width: int = 4, pool: tuple[int, int] = (1, 1)) -> SepTr:
    torch.manual_seed(3)
    model = SepTr((2, height, width), nn.Linear(6, 3), dim=6, depth=2, heads=3, head_dim=4, mlp_dim=8, pool=pool)
    return model.double()


def _one_line(transformer: Transformer, line: Tensor) -> Tensor:
    """The transformer on one sequence [T, dim], head by head and token by token."""
    x = line + transformer.positions
    attention, normed = transformer.attention, transformer.norm1(x)
    queries, keys, values = attention.queries_keys_values(normed).chunk(3, dim=-1)
    width = queries.shape[1] // attention.heads
    seen = []
    for t in range(len(line)):
        heads = []
        for h in range(attention.heads):
            own = slice(h * width, (h + 1) * width)
            weights = torch.softmax(keys[:, own] @ queries[t, own] / width**0.5, 0)
            heads.append(weights @ values[:, own])
        seen.append(torch.cat(heads))
    x = x + attention.out(torch.stack(seen))
    into, _, out = transformer.mlp
    return x + out(F.gelu(into(transformer.norm2(x))))


def _reference(model: SepTr, image: Tensor) -> Tensor:
    """Logits [classes] of one spectrogram [C, H, W]."""
    height, width = image.shape[1:]
    cells = {(i, j): model.embedding(image[:, i, j]) for i in range(height) for j in range(width)}
    class_token = model.class_token
    for block in model.blocks:
        copies = []
        for j in range(width):
            line = _one_line(block.vertical, torch.stack([class_token, *(cells[i, j] for i in range(height))]))
            copies.append(line[0])
            cells.update({(i, j): line[1 + i] for i in range(height)})
        class_token = torch.stack(copies).mean(0)
        copies = []
        for i in range(height):
            line = _one_line(block.horizontal, torch.stack([class_token, *(cells[i, j] for j in range(width))]))
            copies.append(line[0])
            cells.update({(i, j): line[1 + j] for j in range(width)})
        class_token = torch.stack(copies).mean(0)
    return model.head(class_token)


def test_equals_the_reference() -> None:
    model = _septr()
    images = torch.randn(2, 2, 5, 4, dtype=torch.float64)
    expected = torch.stack([_reference(model, image) for image in images])
    torch.testing.assert_close(model(images), expected)


def test_patches_are_averaged() -> None:
    images = torch.randn(2, 2, 11, 8, dtype=torch.float64)
    model = _septr(11, 8, pool=(2, 2))
    unpooled = _septr(5, 4)
    unpooled.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(images), unpooled(F.avg_pool2d(images, 2)))


@pytest.fixture
def block() -> SeparableBlock:
    torch.manual_seed(4)
    return SeparableBlock(5, 4, 6, 3, 4, 8)


def test_vertical_attention_keeps_columns_apart(block: SeparableBlock) -> None:
    columns, token = torch.randn(2, 4, 5, 6), torch.randn(2, 6)
    other = columns.clone()
    other[:, 2] += 1
    out, other_out = (block._attend(block.vertical, lines, token)[0] for lines in (columns, other))
    changed = (out != other_out).any(dim=(0, 2, 3))
    assert changed.tolist() == [False, False, True, False]


def test_columns_are_alike_to_vertical_attention(block: SeparableBlock) -> None:
    """Permuting them permutes its output, and leaves the class token as it is."""
    columns, token, order = torch.randn(2, 4, 5, 6), torch.randn(2, 6), torch.tensor([2, 0, 3, 1])
    out, out_token = block._attend(block.vertical, columns, token)
    permuted, permuted_token = block._attend(block.vertical, columns[:, order], token)
    torch.testing.assert_close(permuted, out[:, order])
    torch.testing.assert_close(permuted_token, out_token)


def test_a_block_keeps_the_places_of_the_tokens(block: SeparableBlock) -> None:
    tokens, token = torch.randn(2, 5, 4, 6), torch.randn(2, 6)
    with torch.no_grad():
        for transformer in (block.vertical, block.horizontal):
            for layer in (transformer.attention.out, transformer.mlp[2]):
                layer.weight.zero_()
                layer.bias.zero_()
        out, out_token = block(tokens, token)
    vertical, horizontal = block.vertical.positions, block.horizontal.positions
    torch.testing.assert_close(out, tokens + vertical[1:, None] + horizontal[1:])
    torch.testing.assert_close(out_token, token + vertical[0] + horizontal[0])
