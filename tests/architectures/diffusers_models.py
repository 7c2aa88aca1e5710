"""Models of diffusers, made small."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
from torch import nn

from tests.architectures.architecture import Architecture

_UNET_BLOCKS = r"(down_blocks|up_blocks)\.\d+"
_UNET_ORDER = (r"down_blocks\.\d+", r"mid_block\..*", r"up_blocks\.\d+")
_TRANSFORMER_BLOCKS = r"(transformer_blocks|single_transformer_blocks|blocks|layers)\.\d+"
_CODER_BLOCKS = r"(encoder\.(down_blocks|layers|blocks)|decoder\.(up_blocks|layers|blocks|up))\.\d+"

_Inputs = Callable[[], dict[str, Any]]


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def _sample(*shape: int) -> dict[str, Any]:
    return {"sample": _normal(*shape)}


def _noisy(*shape: int, **others: Any) -> dict[str, Any]:
    return {"sample": _normal(*shape), "timestep": torch.tensor([10] * shape[0]), **_made(others)}


def _hidden(*shape: int, **others: Any) -> dict[str, Any]:
    return {"hidden_states": _normal(*shape), "timestep": torch.tensor([10] * shape[0]), **_made(others)}


def _made(shapes: dict[str, Any]) -> dict[str, Any]:
    """Tuples are shapes of random tensors; anything else is as it is."""
    return {name: _normal(*value) if isinstance(value, tuple) else value for name, value in shapes.items()}


def _build(kind: str, configuration: dict[str, Any]) -> nn.Module:
    model: nn.Module = getattr(diffusers, kind)(**configuration)
    return model


def _row(
    kind: str, inputs: _Inputs, blocks: str, order: tuple[str, ...] = (), label: str = "", **configuration: Any
) -> Architecture:
    name = f"{kind} ({label})" if label else kind
    return Architecture("diffusers", name, partial(_build, kind, configuration), inputs, blocks, order)


_SMALL_UNET = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
_CONDITIONED = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 8}
_SMALL_VAE = {"block_out_channels": (8, 16), "norm_num_groups": 4}
_TWO_DOWN = ("DownEncoderBlock2D", "DownEncoderBlock2D")
_TWO_UP = ("UpDecoderBlock2D", "UpDecoderBlock2D")
_TEXT = (2, 4, 8)


def _unets() -> list[Architecture]:
    conditioned = {
        **_SMALL_UNET,
        **_CONDITIONED,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
    }
    noisy = partial(_noisy, 2, 4, 16, 16, encoder_hidden_states=_TEXT)
    return [
        _row(
            "UNet2DModel",
            partial(_noisy, 2, 3, 16, 16),
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            **_SMALL_UNET,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
        ),
        _row(
            "UNet2DModel",
            partial(_noisy, 2, 3, 16, 16),
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            "resnet sampling",
            **_SMALL_UNET,
            down_block_types=("ResnetDownsampleBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "ResnetUpsampleBlock2D"),
            attention_head_dim=4,
        ),
        _row("UNet2DConditionModel", noisy, _UNET_BLOCKS, _UNET_ORDER[::2], **conditioned),
        _row(
            "UNet2DConditionModel",
            noisy,
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            "linear projection",
            **conditioned,
            use_linear_projection=True,
        ),
        _row(
            "UNet2DConditionModel",
            noisy,
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            "simple cross attention",
            **{
                **conditioned,
                "down_block_types": ("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
                "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
                "up_block_types": ("UpBlock2D", "SimpleCrossAttnUpBlock2D"),
            },
        ),
        _row(
            "UNet3DConditionModel",
            partial(_noisy, 1, 4, 4, 16, 16, encoder_hidden_states=(1, 4, 8)),
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            sample_size=16,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        ),
        _row(
            "UNetMotionModel",
            partial(_noisy, 1, 4, 4, 16, 16, encoder_hidden_states=(1, 4, 8)),
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            sample_size=16,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            layers_per_block=1,
            cross_attention_dim=8,
            num_attention_heads=2,
            motion_num_attention_heads=2,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        ),
        _row(
            "UNetSpatioTemporalConditionModel",
            partial(
                _noisy, 1, 2, 8, 16, 16, encoder_hidden_states=(1, 1, 8), added_time_ids=torch.tensor([[6.0, 127.0, 0.02]])
            ),
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            sample_size=16,
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=8,
            num_attention_heads=4,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        ),
        _row(
            "UNet1DModel",
            partial(_noisy, 2, 14, 16),
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            in_channels=14,
            out_channels=14,
            time_embedding_type="positional",
            use_timestep_embedding=True,
            block_out_channels=(8, 8, 16),
            flip_sin_to_cos=False,
            freq_shift=1.0,
            out_block_type="OutConv1DBlock",
            mid_block_type="MidResTemporalBlock1D",
            down_block_types=("DownResnetBlock1D", "DownResnetBlock1D", "DownResnetBlock1D"),
            up_block_types=("UpResnetBlock1D", "UpResnetBlock1D"),
            act_fn="swish",
        ),
        _row("Kandinsky3UNet", partial(_noisy, 1, 4, 16, 16, encoder_hidden_states=(1, 4, 8)), _UNET_BLOCKS,
             in_channels=4, time_embedding_dim=16, groups=2, attention_head_dim=4, layers_per_block=1,
             block_out_channels=(32, 64), cross_attention_dim=8, encoder_hid_dim=8),
        _row(
            "UVit2DModel",
            lambda: {
                "input_ids": torch.randint(0, 60, (2, 8, 8)),
                "encoder_hidden_states": _normal(2, 4, 8),
                "pooled_text_emb": _normal(2, 8),
                "micro_conds": torch.rand(2, 5),
            },
            r"transformer_layers\.\d+",
            hidden_size=16, cond_embed_dim=8, encoder_hidden_size=8, micro_cond_encode_dim=4, micro_cond_embed_dim=20,
            vocab_size=64, codebook_size=60, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            block_out_channels=16, block_num_heads=2, in_channels=16, sample_size=8,
        ),
        _row(
            "ControlNetModel",
            partial(
                _noisy, 2, 4, 16, 16, encoder_hidden_states=_TEXT, controlnet_cond=(2, 3, 32, 32)
            ),
            r"down_blocks\.\d+",
            block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4, **_CONDITIONED,
            conditioning_embedding_out_channels=(8, 16),
        ),
        _row("T2IAdapter", lambda: {"x": _normal(2, 3, 64, 64)}, r"adapter\.body\.\d+",
             in_channels=3, channels=[8, 16, 16, 16], num_res_blocks=2, downscale_factor=8),
    ]


def _autoencoders() -> list[Architecture]:
    order = (r"encoder\.down_blocks\.\d+", r"decoder\.up_blocks\.\d+")
    image = partial(_sample, 2, 3, 32, 32)
    two = {**_SMALL_VAE, "down_block_types": _TWO_DOWN, "up_block_types": _TWO_UP, "latent_channels": 4}
    return [
        _row("AutoencoderKL", image, _CODER_BLOCKS, order, **two),
        _row("VQModel", image, _CODER_BLOCKS, order, num_vq_embeddings=16, **two),
        _row("AutoencoderTiny", image, _CODER_BLOCKS, encoder_block_out_channels=(16, 16),
             decoder_block_out_channels=(16, 16), num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1)),
        _row("AsymmetricAutoencoderKL", image, r"(encoder\.down_blocks|decoder\.up_blocks)\.\d+", order,
             down_block_types=_TWO_DOWN, down_block_out_channels=(8, 16), layers_per_down_block=1,
             up_block_types=_TWO_UP, up_block_out_channels=(8, 16), layers_per_up_block=1, norm_num_groups=4),
        _row("ConsistencyDecoderVAE", image, r"encoder\.down_blocks\.\d+",
             encoder_block_out_channels=(8, 16), encoder_norm_num_groups=4, encoder_down_block_types=_TWO_DOWN,
             decoder_block_out_channels=(32, 64), decoder_layers_per_block=1, latent_channels=4,
             decoder_down_block_types=("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"),
             decoder_up_block_types=("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D")),
        _row("AutoencoderKLTemporalDecoder", lambda: {"sample": _normal(2, 3, 16, 16), "num_frames": 2}, _CODER_BLOCKS, order,
             block_out_channels=(32, 64), down_block_types=_TWO_DOWN, latent_channels=4),
        _row("AutoencoderDC", image, _CODER_BLOCKS, (r"encoder\.down_blocks\.\d+", r"decoder\.up_blocks\.\d+"),
             latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
             decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
             decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
             encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), downsample_block_type="conv",
             upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu"),
        _row("AutoencoderKLWan", partial(_sample, 1, 3, 5, 16, 16), r"encoder\.down_blocks\.\d+", base_dim=3, z_dim=16,
             dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]),
        _row("AutoencoderKLCogVideoX", partial(_sample, 1, 3, 8, 16, 16), _CODER_BLOCKS, order,
             down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
             block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
             temporal_compression_ratio=4),
        _row("AutoencoderKLMochi", partial(_sample, 1, 15, 7, 16, 16), _CODER_BLOCKS, order, in_channels=15, out_channels=3,
             latent_channels=4, encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 32, 32),
             layers_per_block=(1, 1, 1, 1, 1), act_fn="silu"),
        _row("AutoencoderKLLTXVideo", partial(_sample, 1, 3, 9, 16, 16), _CODER_BLOCKS, order, latent_channels=8,
             block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1),
             decoder_layers_per_block=(1, 1, 1, 1, 1), spatio_temporal_scaling=(True, True, False, False),
             decoder_spatio_temporal_scaling=(True, True, False, False), decoder_inject_noise=(False,) * 5,
             upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, patch_size=1, patch_size_t=1, encoder_causal=True,
             timestep_conditioning=False),
        _row("AutoencoderOobleck", partial(_sample, 1, 2, 480), r"(encoder|decoder)\.block\.\d+", (r"encoder\.block\.\d+", r"decoder\.block\.\d+"),
             encoder_hidden_size=12, decoder_channels=12, decoder_input_channels=6, audio_channels=2,
             downsampling_ratios=[2, 4], channel_multiples=[1, 2]),
    ]


def _ids(length: int, columns: int = 3) -> torch.Tensor:
    return torch.zeros(length, columns)


def _transformers() -> list[Architecture]:
    heads = {"attention_head_dim": 8, "num_attention_heads": 2, "num_layers": 2}
    return [
        _row("DiTTransformer2DModel", partial(_hidden, 2, 4, 8, 8, class_labels=torch.tensor([1, 2])), _TRANSFORMER_BLOCKS,
             **heads, in_channels=4, out_channels=8, sample_size=8, patch_size=2, num_embeds_ada_norm=16),
        _row("PixArtTransformer2DModel",
             partial(_hidden, 2, 4, 8, 8, encoder_hidden_states=_TEXT, added_cond_kwargs={"resolution": None, "aspect_ratio": None}),
             _TRANSFORMER_BLOCKS, **heads, in_channels=4, out_channels=8, sample_size=8, patch_size=2, caption_channels=8,
             cross_attention_dim=16, use_additional_conditions=False),
        _row("Transformer2DModel", lambda: {"hidden_states": _normal(2, 8, 8, 8), "encoder_hidden_states": _normal(*_TEXT)},
             _TRANSFORMER_BLOCKS, **heads, in_channels=8, norm_num_groups=4, cross_attention_dim=8),
        _row("TransformerTemporalModel", lambda: {"hidden_states": _normal(4, 8, 4, 4), "num_frames": 2}, _TRANSFORMER_BLOCKS,
             **heads, in_channels=8, norm_num_groups=4),
        _row("PriorTransformer",
             partial(_hidden, 2, 8, proj_embedding=(2, 8), encoder_hidden_states=(2, 7, 8)), _TRANSFORMER_BLOCKS,
             num_attention_heads=2, attention_head_dim=4, num_layers=2, embedding_dim=8, num_embeddings=7, additional_embeddings=4),
        _row("SD3Transformer2DModel", partial(_hidden, 2, 4, 8, 8, encoder_hidden_states=_TEXT, pooled_projections=(2, 16)),
             _TRANSFORMER_BLOCKS, **heads, sample_size=8, patch_size=1, in_channels=4, out_channels=4,
             joint_attention_dim=8, caption_projection_dim=16, pooled_projection_dim=16),
        _row("FluxTransformer2DModel",
             lambda: {"hidden_states": _normal(1, 16, 4), "encoder_hidden_states": _normal(1, 8, 8),
                      "pooled_projections": _normal(1, 16), "timestep": torch.tensor([1.0]), "img_ids": _ids(16), "txt_ids": _ids(8)},
             _TRANSFORMER_BLOCKS, (r"transformer_blocks\.\d+", r"single_transformer_blocks\.\d+"),
             patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
             joint_attention_dim=8, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=False),
        _row("AuraFlowTransformer2DModel", partial(_hidden, 2, 4, 16, 16, encoder_hidden_states=(2, 8, 32)), r"(joint_transformer_blocks|single_transformer_blocks)\.\d+",
             (r"joint_transformer_blocks\.\d+", r"single_transformer_blocks\.\d+"),
             sample_size=16, patch_size=2, in_channels=4, num_mmdit_layers=2, num_single_dit_layers=2, attention_head_dim=8,
             num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32, out_channels=4, pos_embed_max_size=256),
        _row("CogVideoXTransformer3DModel", partial(_hidden, 1, 2, 4, 8, 8, encoder_hidden_states=(1, 8, 8)), _TRANSFORMER_BLOCKS,
             **heads, in_channels=4, out_channels=4, time_embed_dim=2, text_embed_dim=8, sample_width=8, sample_height=8,
             sample_frames=8, patch_size=2, temporal_compression_ratio=4, max_text_seq_length=8),
        _row("LatteTransformer3DModel", partial(_hidden, 1, 4, 2, 8, 8, encoder_hidden_states=(1, 4, 8)), _TRANSFORMER_BLOCKS,
             **heads, in_channels=4, out_channels=8, sample_size=8, patch_size=2, caption_channels=8, cross_attention_dim=16, video_length=2,
             norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6, num_embeds_ada_norm=16),
        _row("LTXVideoTransformer3DModel",
             lambda: {"hidden_states": _normal(1, 8, 4), "encoder_hidden_states": _normal(1, 4, 16), "timestep": torch.tensor([[10] * 8]),
                      "encoder_attention_mask": torch.ones(1, 4, dtype=torch.bool), "num_frames": 2, "height": 2, "width": 2},
             _TRANSFORMER_BLOCKS, **heads, in_channels=4, out_channels=4, cross_attention_dim=16, caption_channels=16, qk_norm="rms_norm_across_heads"),
        _row("WanTransformer3DModel", partial(_hidden, 1, 4, 2, 8, 8, encoder_hidden_states=(1, 6, 16)), _TRANSFORMER_BLOCKS,
             patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
             freq_dim=32, ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32),
        _row("HunyuanVideoTransformer3DModel",
             partial(_hidden, 1, 4, 2, 8, 8, encoder_hidden_states=(1, 6, 16), pooled_projections=(1, 8),
                     encoder_attention_mask=torch.ones(1, 6), guidance=torch.tensor([6000.0])),
             _TRANSFORMER_BLOCKS, (r"transformer_blocks\.\d+", r"single_transformer_blocks\.\d+"), in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=2,
             num_single_layers=2, num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True, text_embed_dim=16,
             pooled_projection_dim=8, rope_axes_dim=(2, 4, 4)),
        _row("SanaTransformer2DModel", partial(_hidden, 2, 4, 8, 8, encoder_hidden_states=(2, 4, 8)), _TRANSFORMER_BLOCKS,
             patch_size=1, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=4, num_attention_heads=2,
             num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8, sample_size=8),
        _row("MochiTransformer3DModel", partial(_hidden, 1, 4, 2, 8, 8, encoder_hidden_states=(1, 6, 16), encoder_attention_mask=torch.ones(1, 6, dtype=torch.bool)), _TRANSFORMER_BLOCKS,
             patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16, in_channels=4,
             text_embed_dim=16, time_embed_dim=4, activation_fn="swiglu", max_sequence_length=6),
        _row("StableAudioDiTModel",
             partial(_hidden, 1, 3, 6, encoder_hidden_states=(1, 4, 5), global_hidden_states=(1, 1, 7)), _TRANSFORMER_BLOCKS,
             sample_size=4, in_channels=3, num_layers=2, attention_head_dim=4, num_key_value_attention_heads=2,
             num_attention_heads=4, out_channels=3, cross_attention_dim=3, time_proj_dim=8, global_states_input_dim=7,
             cross_attention_input_dim=5),
        _row("QwenImageTransformer2DModel",
             lambda: {"hidden_states": _normal(1, 16, 16), "encoder_hidden_states": _normal(1, 7, 16),
                      "encoder_hidden_states_mask": torch.ones(1, 7, dtype=torch.long), "timestep": torch.tensor([1.0]),
                      "img_shapes": [(1, 4, 4)], "txt_seq_lens": [7]},
             _TRANSFORMER_BLOCKS, patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16,
             num_attention_heads=2, joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4)),
        _row("CogView3PlusTransformer2DModel",
             partial(_hidden, 2, 4, 8, 8, encoder_hidden_states=(2, 8, 8), original_size=torch.tensor([[8, 8]] * 2),
                     target_size=torch.tensor([[8, 8]] * 2), crop_coords=torch.tensor([[0, 0]] * 2)),
             _TRANSFORMER_BLOCKS, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=4, num_attention_heads=2, out_channels=4,
             text_embed_dim=8, time_embed_dim=8, condition_dim=2, pos_embed_max_size=8, sample_size=8),
        _row("DiTTransformer2DModel", partial(_hidden, 2, 4, 8, 8, class_labels=torch.tensor([1, 2])), _TRANSFORMER_BLOCKS, label="8 layers",
             attention_head_dim=8, num_attention_heads=2, num_layers=8, in_channels=4, out_channels=8, sample_size=8, patch_size=2, num_embeds_ada_norm=16),
    ]


def architectures() -> list[Architecture]:
    return [*_unets(), *_autoencoders(), *_transformers()]
