"""Small inputs of each kind that models of transformers take, by the sizes in a configuration."""

from typing import Any

import torch

Inputs = dict[str, Any]


def text(_: Any, length: int = 16) -> Inputs:
    return {"input_ids": torch.randint(3, 90, (2, length))}


def long_text(_: Any) -> Inputs:
    return text(_, 64)


def two_texts(configuration: Any) -> Inputs:
    return {**text(configuration), "decoder_input_ids": torch.randint(3, 90, (2, 8))}


def two_long_texts(configuration: Any) -> Inputs:
    return {**text(configuration, 64), "decoder_input_ids": torch.randint(3, 90, (2, 8))}


def image(configuration: Any) -> Inputs:
    side = getattr(configuration, "image_size", None) or 64
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return {"pixel_values": torch.rand(2, getattr(configuration, "num_channels", 3), height, width)}


def image_64(_: Any) -> Inputs:
    return {"pixel_values": torch.rand(2, 3, 64, 64)}


def image_128(_: Any) -> Inputs:
    return {"pixel_values": torch.rand(1, 3, 128, 128)}


def image_224(_: Any) -> Inputs:
    return {"pixel_values": torch.rand(2, 3, 224, 224)}


def gray_image(_: Any) -> Inputs:
    return {"pixel_values": torch.rand(1, 1, 64, 64)}


def pixels_as_tokens(_: Any) -> Inputs:
    return text(_, 36)


def video(configuration: Any) -> Inputs:
    side = configuration.image_size
    return {"pixel_values": torch.rand(1, configuration.num_frames, 3, side, side)}


def video_for_vjepa(configuration: Any) -> Inputs:
    side = configuration.crop_size
    return {"pixel_values_videos": torch.rand(1, configuration.frames_per_clip, 3, side, side)}


def wave(_: Any) -> Inputs:
    return {"input_values": torch.randn(2, 4000)}


def wave_of_one_channel(_: Any) -> Inputs:
    return {"input_values": torch.randn(1, 1, 4800)}


def spectrogram(configuration: Any) -> Inputs:
    return {"input_values": torch.randn(2, configuration.max_length, configuration.num_mel_bins)}


def mel_and_text(configuration: Any) -> Inputs:
    frames = 2 * configuration.max_source_positions
    return {
        "input_features": torch.randn(2, configuration.num_mel_bins, frames),
        "decoder_input_ids": torch.randint(3, 90, (2, 8)),
    }


def frames_and_text(configuration: Any) -> Inputs:
    return {
        "input_features": torch.randn(2, 48, configuration.input_feat_per_channel),
        "decoder_input_ids": torch.randint(3, 90, (2, 8)),
    }


def frames(configuration: Any) -> Inputs:
    return {"input_features": torch.randn(2, 48, configuration.feature_projection_input_dim)}


def wave_and_text(_: Any) -> Inputs:
    return {"input_values": torch.randn(2, 4000), "decoder_input_ids": torch.randint(3, 90, (2, 8))}


def image_and_text(configuration: Any) -> Inputs:
    side = configuration.vision_config.image_size
    return {**text(configuration), "pixel_values": torch.rand(2, 3, side, side)}


def flat_image_and_text(configuration: Any) -> Inputs:
    return {**text(configuration), **image(configuration)}


def image_in_text(configuration: Any) -> Inputs:
    """As many image tokens as the image has patches."""
    vision = configuration.vision_config
    tokens = torch.randint(3, 90, (2, 24))
    tokens[:, 2 : 2 + (vision.image_size // vision.patch_size) ** 2] = configuration.image_token_index
    return {"input_ids": tokens, "pixel_values": torch.rand(2, 3, vision.image_size, vision.image_size)}


def text_and_features(configuration: Any) -> Inputs:
    return {
        **text(configuration),
        "visual_feats": torch.rand(2, 6, configuration.visual_feat_dim),
        "visual_pos": torch.rand(2, 6, 4),
    }


def text_and_embeddings(configuration: Any) -> Inputs:
    return {**text(configuration), "visual_embeds": torch.rand(2, 6, configuration.visual_embedding_dim)}


def text_and_boxes(configuration: Any) -> Inputs:
    return {**text(configuration), "bbox": torch.tensor([1, 2, 3, 4]).expand(2, 16, 4).contiguous()}


def image_text_and_boxes(configuration: Any) -> Inputs:
    return {
        **text_and_boxes(configuration),
        "pixel_values": torch.rand(2, 3, configuration.input_size, configuration.input_size),
    }


def series(configuration: Any) -> Inputs:
    return {"past_values": torch.randn(2, configuration.context_length, configuration.num_input_channels)}


def probabilistic_series(configuration: Any) -> Inputs:
    past = configuration.context_length + max(configuration.lags_sequence)
    ahead = configuration.prediction_length
    features = configuration.num_time_features
    return {
        "past_values": torch.randn(2, past),
        "past_time_features": torch.randn(2, past, features),
        "past_observed_mask": torch.ones(2, past),
        "future_values": torch.randn(2, ahead),
        "future_time_features": torch.randn(2, ahead, features),
    }


def trajectory(configuration: Any) -> Inputs:
    steps = 6
    return {
        "states": torch.randn(2, steps, configuration.state_dim),
        "actions": torch.randn(2, steps, configuration.act_dim),
        "rewards": torch.randn(2, steps, 1),
        "returns_to_go": torch.randn(2, steps, 1),
        "timesteps": torch.arange(steps).expand(2, steps).contiguous(),
        "attention_mask": torch.ones(2, steps),
    }
