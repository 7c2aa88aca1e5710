"""UNets of diffusers, made small, and what steers them."""

from functools import partial

import torch

from tests.architectures.architecture import Architecture
from tests.architectures.diffusers_rows import noisy, normal, row

_UNET_BLOCKS = r"(down_blocks|up_blocks)\.\d+"
_UNET_ORDER = (r"down_blocks\.\d+", r"mid_block\..*", r"up_blocks\.\d+")
_SMALL_UNET = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
_CONDITIONED = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 8}
_TEXT = (2, 4, 8)


def unets() -> list[Architecture]:
    conditioned = {
        **_SMALL_UNET,
        **_CONDITIONED,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
    }
    with_text = partial(noisy, 2, 4, 16, 16, encoder_hidden_states=_TEXT)
    return [
        row(
            "UNet2DModel",
            partial(noisy, 2, 3, 16, 16),
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            **_SMALL_UNET,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
        ),
        row(
            "UNet2DModel",
            partial(noisy, 2, 3, 16, 16),
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            "resnet sampling",
            **_SMALL_UNET,
            down_block_types=("ResnetDownsampleBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "ResnetUpsampleBlock2D"),
            attention_head_dim=4,
        ),
        row("UNet2DConditionModel", with_text, _UNET_BLOCKS, _UNET_ORDER[::2], **conditioned),
        row(
            "UNet2DConditionModel",
            with_text,
            _UNET_BLOCKS,
            _UNET_ORDER[::2],
            "linear projection",
            **conditioned,
            use_linear_projection=True,
        ),
        row(
            "UNet2DConditionModel",
            with_text,
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
        row(
            "UNet3DConditionModel",
            partial(noisy, 1, 4, 4, 16, 16, encoder_hidden_states=(1, 4, 8)),
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
        row(
            "UNetSpatioTemporalConditionModel",
            partial(
                noisy,
                1,
                2,
                8,
                16,
                16,
                encoder_hidden_states=(1, 1, 8),
                added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]),
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
        row(
            "UNet1DModel",
            partial(noisy, 2, 14, 16),
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
        row(
            "UVit2DModel",
            lambda: {
                "input_ids": torch.randint(0, 60, (2, 8, 8)),
                "encoder_hidden_states": normal(2, 4, 8),
                "pooled_text_emb": normal(2, 8),
                "micro_conds": torch.rand(2, 5),
            },
            r"transformer_layers\.\d+",
            hidden_size=16,
            cond_embed_dim=8,
            encoder_hidden_size=8,
            micro_cond_encode_dim=4,
            micro_cond_embed_dim=20,
            vocab_size=64,
            codebook_size=60,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            block_out_channels=16,
            block_num_heads=2,
            in_channels=16,
            sample_size=8,
        ),
        row(
            "ControlNetModel",
            partial(noisy, 2, 4, 16, 16, encoder_hidden_states=_TEXT, controlnet_cond=(2, 3, 32, 32)),
            r"down_blocks\.\d+",
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            **_CONDITIONED,
            conditioning_embedding_out_channels=(8, 16),
        ),
        row(
            "T2IAdapter",
            lambda: {"x": normal(2, 3, 64, 64)},
            r"adapter\.body\.\d+",
            in_channels=3,
            channels=[8, 16, 16, 16],
            num_res_blocks=2,
            downscale_factor=8,
        ),
    ]
