"""Autoencoders of diffusers, made small."""

from functools import partial

from tests.architectures.architecture import Architecture
from tests.architectures.diffusers_rows import normal, row, sample

_CODER_BLOCKS = r"(encoder\.(down_blocks|layers|blocks)|decoder\.(up_blocks|layers|blocks|up))\.\d+"
_SMALL_VAE = {"block_out_channels": (8, 16), "norm_num_groups": 4}
_TWO_DOWN = ("DownEncoderBlock2D", "DownEncoderBlock2D")
_TWO_UP = ("UpDecoderBlock2D", "UpDecoderBlock2D")


def autoencoders() -> list[Architecture]:
    order = (r"encoder\.down_blocks\.\d+", r"decoder\.up_blocks\.\d+")
    image = partial(sample, 2, 3, 32, 32)
    two = {**_SMALL_VAE, "down_block_types": _TWO_DOWN, "up_block_types": _TWO_UP, "latent_channels": 4}
    return [
        row("AutoencoderKL", image, _CODER_BLOCKS, order, **two),
        row("VQModel", image, _CODER_BLOCKS, order, num_vq_embeddings=16, **two),
        row(
            "AutoencoderTiny",
            image,
            _CODER_BLOCKS,
            encoder_block_out_channels=(16, 16),
            decoder_block_out_channels=(16, 16),
            num_encoder_blocks=(1, 2),
            num_decoder_blocks=(2, 1),
        ),
        row(
            "AsymmetricAutoencoderKL",
            image,
            r"(encoder\.down_blocks|decoder\.up_blocks)\.\d+",
            order,
            down_block_types=_TWO_DOWN,
            down_block_out_channels=(8, 16),
            layers_per_down_block=1,
            up_block_types=_TWO_UP,
            up_block_out_channels=(8, 16),
            layers_per_up_block=1,
            norm_num_groups=4,
        ),
        row(
            "ConsistencyDecoderVAE",
            image,
            r"encoder\.down_blocks\.\d+",
            encoder_block_out_channels=(8, 16),
            encoder_norm_num_groups=4,
            encoder_down_block_types=_TWO_DOWN,
            decoder_block_out_channels=(32, 64),
            decoder_layers_per_block=1,
            latent_channels=4,
            decoder_down_block_types=("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"),
            decoder_up_block_types=("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
        ),
        row(
            "AutoencoderKLTemporalDecoder",
            lambda: {"sample": normal(2, 3, 16, 16), "num_frames": 2},
            _CODER_BLOCKS,
            order,
            block_out_channels=(32, 64),
            down_block_types=_TWO_DOWN,
            latent_channels=4,
        ),
        row(
            "AutoencoderDC",
            image,
            r"encoder\.down_blocks\.\d+",
            (),  # its decoder runs from the last block to the first
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
        ),
        row(
            "AutoencoderKLWan",
            partial(sample, 1, 3, 5, 16, 16),
            r"encoder\.down_blocks\.\d+",
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        row(
            "AutoencoderKLCogVideoX",
            partial(sample, 1, 3, 8, 16, 16),
            _CODER_BLOCKS,
            order,
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
        ),
        row(
            "AutoencoderKLMochi",
            partial(sample, 1, 3, 7, 32, 32),
            _CODER_BLOCKS,
            order,
            in_channels=15,
            out_channels=3,
            latent_channels=4,
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
            act_fn="silu",
        ),
        row(
            "AutoencoderKLLTXVideo",
            partial(sample, 1, 3, 9, 16, 16),
            _CODER_BLOCKS,
            order,
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False,) * 5,
            upsample_residual=(False,) * 4,
            upsample_factor=(1,) * 4,
            patch_size=1,
            patch_size_t=1,
            encoder_causal=True,
            timestep_conditioning=False,
        ),
        row(
            "AutoencoderOobleck",
            partial(sample, 1, 2, 480),
            r"(encoder|decoder)\.block\.\d+",
            (r"encoder\.block\.\d+", r"decoder\.block\.\d+"),
            encoder_hidden_size=12,
            decoder_channels=12,
            decoder_input_channels=6,
            audio_channels=2,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
        ),
    ]
