"""Models of transformers, from configurations of which all sizes are made small."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig

from tests.architectures import transformers_inputs as inputs
from tests.architectures.architecture import NUMBERED_BLOCKS, Architecture
from tests.architectures.transformers_rows import ROWS, Row

_WIDTH = """
    hidden_size d_model n_embd dim model_dim embed_dim embedding_size word_embed_proj_dim projection_dim emb_dim
    text_embed_dim q_dim kv_dim encoder_hidden_dim decoder_hidden_size hidden_dim
"""
_INNER = """
    intermediate_size d_ff encoder_ffn_dim decoder_ffn_dim ffn_dim n_inner ffn_hidden_size hidden_dim_ff
    moe_intermediate_size shared_expert_intermediate_size d_inner feed_forward_size classifier_proj_size
"""
_LAYERS = """
    num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers num_encoder_layers
    decoder_num_hidden_layers encoder_num_hidden_layers
"""
_HEADS = """
    num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads
    num_encoder_attention_heads num_decoder_attention_heads decoder_num_attention_heads
"""
_OTHERS = {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "attention_head_size": 8,
    "vocab_size": 99,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "image_size": 32,
    "patch_size": 8,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "rotary_dim": 4,
}
SMALL: dict[str, Any] = {
    **dict.fromkeys(_WIDTH.split(), 32),
    **dict.fromkeys(_INNER.split(), 64),
    **dict.fromkeys(_LAYERS.split(), 3),
    **dict.fromkeys(_HEADS.split(), 4),
    **_OTHERS,
}


def architectures() -> list[Architecture]:
    return [_architecture(row) for row in ROWS]


def _architecture(row: Row) -> Architecture:
    return Architecture(
        "transformers",
        f"{row.model_type} ({row.head})",
        partial(_build, row),
        partial(_inputs, row),
        row.blocks or NUMBERED_BLOCKS,
        row.order,
        row.training,
    )


def _configuration(row: Row) -> PreTrainedConfig:
    return small_configuration(type(AutoConfig.for_model(row.model_type)), row.options)


def small_configuration(kind: type[PreTrainedConfig], options: Mapping[str, Any]) -> PreTrainedConfig:
    """Small numbers under all names that usually are a size, also in configurations within; `options` as given."""
    small: dict[str, Any] = {}
    default = kind()
    for name, value in {**default.to_dict(), **dict(default.__dict__)}.items():
        if name == "backbone_config":  # small enough
            continue
        if isinstance(value, PreTrainedConfig):
            small[name] = small_configuration(type(value), options.get(name, {}))
        elif name in SMALL and name not in options and type(value) is int:
            small[name] = SMALL[name]
    within = {name for name, value in small.items() if isinstance(value, PreTrainedConfig)}
    return kind(**small, **{name: value for name, value in options.items() if name not in within})


def _build(row: Row) -> nn.Module:
    head, configuration = getattr(transformers, row.head), _configuration(row)
    model: nn.Module = head.from_config(configuration) if row.head.startswith("Auto") else head(configuration)
    return model


def _inputs(row: Row) -> dict[str, Any]:
    make: Callable[..., dict[str, torch.Tensor]] = getattr(inputs, row.inputs)
    return make(_configuration(row))
