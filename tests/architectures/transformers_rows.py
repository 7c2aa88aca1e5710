"""The models of transformers: type of the configuration, class of the model, kind of its inputs, what else it needs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

_SEQ2SEQ_ORDER = (r"(.*\.)?encoder\.(layers|block)\.\d+", r"(.*\.)?decoder\.(layers|block)\.\d+")


class Row(NamedTuple):
    model_type: str
    head: str
    inputs: str
    options: Mapping[str, Any] = {}
    blocks: str = ""
    order: tuple[str, ...] = ()
    training: bool = True


def _rows(head: str, inputs: str, types: str, **fields: Any) -> list[Row]:
    return [Row(model_type, head, inputs, **fields) for model_type in types.split()]


_TEXT_ENCODERS = [
    *_rows(
        "AutoModelForSequenceClassification",
        "text",
        "albert bert camembert canine convbert data2vec-text deberta deberta-v2 distilbert electra ernie flaubert "
        "fnet ibert layoutlm megatron-bert mobilebert mpnet mra nystromformer rembert roberta "
        "roberta-prelayernorm roc_bert roformer squeezebert xlm xlm-roberta xlm-roberta-xl xlnet yoso eurobert",
    ),
    *_rows("AutoModelForMaskedLM", "text", "bert modernbert nomic_bert"),
    *_rows("AutoModelForQuestionAnswering", "text", "funnel splinter"),
    Row("big_bird", "AutoModelForMaskedLM", "text", {"attention_type": "original_full"}),
    Row("longformer", "AutoModelForMaskedLM", "long_text", {"attention_window": 8, "max_position_embeddings": 130}),
    Row("xmod", "AutoModelForMaskedLM", "text", {"default_language": "en_XX"}),
    Row("layoutlm", "AutoModelForTokenClassification", "text_and_boxes"),
    Row("esm", "AutoModelForMaskedLM", "text", {"vocab_size": 99, "pad_token_id": 1, "mask_token_id": 4}),
    Row(
        "lilt",
        "AutoModelForTokenClassification",
        "text_and_boxes",
        {"hidden_size": 48, "max_2d_position_embeddings": 99},
    ),
    Row("luke", "AutoModel", "text", {"entity_vocab_size": 20, "entity_emb_size": 16}),
    Row("tapas", "AutoModel", "text"),
]
_DECODERS = [
    *_rows(
        "AutoModelForCausalLM",
        "text",
        "gpt2 gpt_neox gptj gpt_bigcode opt bloom codegen ctrl falcon gemma gemma2 gemma3_text llama mistral "
        "mixtral qwen2 qwen3 qwen2_moe qwen3_moe phi phi3 stablelm starcoder2 olmo olmo2 mpt persimmon cohere granite "
        "granitemoe glm biogpt xglm openai-gpt gpt_oss jetmoe olmoe smollm3 helium "
        "diffllama ernie4_5 modernbert-decoder",
    ),
    Row(
        "gpt_neo",
        "AutoModelForCausalLM",
        "text",
        {"num_layers": 3, "attention_types": [[["global", "local", "global"], 1]]},
    ),
    Row("nemotron", "AutoModelForCausalLM", "text", {"num_key_value_heads": 2, "head_dim": 8}),
    Row(
        "deepseek_v3",
        "AutoModelForCausalLM",
        "text",
        {
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "head_dim": 8,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "num_key_value_heads": 4,
        },
    ),
]
_STATE_SPACE = _rows(
    "AutoModelForCausalLM",
    "text",
    "mamba falcon_mamba recurrent_gemma rwkv lfm2",
)
_STATE_SPACE += [
    Row(
        "mamba2",
        "AutoModelForCausalLM",
        "text",
        {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    ),
    Row(
        "falcon_h1",
        "AutoModelForCausalLM",
        "text",
        {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8},
    ),
    Row(
        "jamba",
        "AutoModelForCausalLM",
        "text",
        {"num_hidden_layers": 4, "attn_layer_offset": 1, "attn_layer_period": 2},
    ),
    Row(
        "bamba",
        "AutoModelForCausalLM",
        "text",
        {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8, "attn_layer_indices": [1]},
    ),
    Row(
        "qwen3_next",
        "AutoModelForCausalLM",
        "text",
        {
            "num_hidden_layers": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
]
_SEQ2SEQ = [
    *_rows(
        "AutoModelForSeq2SeqLM",
        "two_texts",
        "t5 mt5 umt5 longt5 switch_transformers bart mbart marian pegasus blenderbot blenderbot-small m2m_100 plbart "
        "fsmt",
        order=_SEQ2SEQ_ORDER,
        training=False,
    ),
    Row("prophetnet", "AutoModelForSeq2SeqLM", "two_texts", order=_SEQ2SEQ_ORDER, training=False),
    Row(
        "led", "AutoModelForSeq2SeqLM", "two_long_texts", {"attention_window": 8}, order=_SEQ2SEQ_ORDER, training=False
    ),
]
_SMALL_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage2", "stage3", "stage4"],
}
_VISION = [
    *_rows(
        "AutoModelForImageClassification",
        "image",
        "vit beit dinov2 dinov2_with_registers ijepa vit_msn",
    ),
    *_rows(
        "AutoModelForImageClassification",
        "image_64",
        "convnext convnextv2 resnet regnet mobilenet_v1 mobilenet_v2 poolformer pvt_v2 cvt focalnet bit segformer",
    ),
    *_rows("AutoModelForImageClassification", "image_224", "swiftformer"),
    Row("deit", "DeiTForImageClassification", "image"),
    Row("levit", "LevitForImageClassification", "image_224", {"image_size": 224, "patch_size": 16}),
    Row("pvt", "AutoModelForImageClassification", "image_224", {"image_size": 224}),
    Row("mobilevit", "AutoModelForImageClassification", "image_64", {"image_size": 64, "patch_size": 2}),
    Row("mobilevitv2", "AutoModelForImageClassification", "image_64", {"image_size": 64, "patch_size": 2}),
    Row("efficientnet", "AutoModelForImageClassification", "image_64", {"hidden_dim": 2560}),
    Row(
        "swin",
        "AutoModelForImageClassification",
        "image_64",
        {
            "image_size": 64,
            "patch_size": 2,
            "embed_dim": 16,
            "depths": [1, 1, 2, 1],
            "window_size": 4,
            "num_heads": [1, 2, 4, 8],
        },
    ),
    Row(
        "swinv2",
        "AutoModelForImageClassification",
        "image_64",
        {
            "image_size": 64,
            "patch_size": 2,
            "embed_dim": 16,
            "depths": [1, 1, 2, 1],
            "window_size": 4,
            "num_heads": [1, 2, 4, 8],
        },
    ),
    Row(
        "hiera",
        "AutoModelForImageClassification",
        "image_224",
        {"image_size": [224, 224], "patch_size": [7, 7], "embed_dim": 32, "num_heads": [1, 2, 4, 8]},
    ),
    Row("dinov3_vit", "AutoModel", "image"),
    Row("vit_mae", "AutoModelForPreTraining", "image"),
    Row("imagegpt", "ImageGPTForCausalImageModeling", "text"),
    Row("segformer", "AutoModelForSemanticSegmentation", "image_64"),
    Row("glpn", "AutoModelForDepthEstimation", "image_64"),
    Row(
        "dpt",
        "AutoModelForDepthEstimation",
        "image",
        {
            "is_hybrid": False,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 8, 16, 16],
        },
    ),
    Row("yolos", "AutoModelForObjectDetection", "image", {"image_size": [32, 32]}),
    Row("detr", "AutoModelForObjectDetection", "image_64", {"backbone_config": _SMALL_RESNET}, training=False),
    Row(
        "conditional_detr",
        "AutoModelForObjectDetection",
        "image_64",
        {"backbone_config": _SMALL_RESNET},
        training=False,
    ),
    Row(
        "deformable_detr",
        "AutoModelForObjectDetection",
        "image_128",
        {"backbone_config": _SMALL_RESNET},
        training=False,
    ),
    Row(
        "rt_detr",
        "AutoModelForObjectDetection",
        "image_128",
        {
            "d_model": 32,
            "encoder_hidden_dim": 32,
            "decoder_n_points": 4,
            "num_feature_levels": 3,
            "decoder_layers": 3,
            "encoder_layers": 1,
            "num_queries": 20,
            "feat_strides": [8, 16, 32],
            "decoder_in_channels": [32, 32, 32],
        },
        training=False,
    ),
    Row(
        "d_fine",
        "AutoModelForObjectDetection",
        "image_128",
        {
            "d_model": 32,
            "encoder_hidden_dim": 32,
            "decoder_n_points": 4,
            "num_feature_levels": 3,
            "decoder_layers": 3,
            "encoder_layers": 1,
            "num_queries": 20,
            "feat_strides": [8, 16, 32],
            "decoder_in_channels": [32, 32, 32],
        },
        training=False,
    ),
    Row(
        "swin2sr",
        "AutoModelForImageToImage",
        "image",
        {"image_size": 32, "patch_size": 1, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4},
    ),
    Row("timesformer", "AutoModelForVideoClassification", "video", {"num_frames": 4}),
    Row("videomae", "AutoModelForVideoClassification", "video", {"num_frames": 4}),
    Row("vivit", "AutoModelForVideoClassification", "video", {"num_frames": 4, "tubelet_size": [2, 8, 8]}),
    Row("superpoint", "AutoModelForKeypointDetection", "image_64"),
]
_AUDIO = [
    *_rows(
        "AutoModelForAudioClassification",
        "wave",
        "wav2vec2 hubert wavlm unispeech unispeech-sat sew data2vec-audio wav2vec2-conformer sew-d",
        options={"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "position_buckets": 32},
        training=False,
    ),
    Row("wav2vec2-bert", "AutoModelForAudioClassification", "frames", training=False),
    Row(
        "audio-spectrogram-transformer",
        "AutoModelForAudioClassification",
        "spectrogram",
        {"max_length": 40, "num_mel_bins": 16, "frequency_stride": 8, "time_stride": 8},
    ),
    Row(
        "whisper",
        "AutoModelForSpeechSeq2Seq",
        "mel_and_text",
        {"max_source_positions": 30, "num_mel_bins": 16, "max_target_positions": 20},
        order=_SEQ2SEQ_ORDER,
        training=False,
    ),
    Row(
        "speech_to_text",
        "AutoModelForSpeechSeq2Seq",
        "frames_and_text",
        {"input_feat_per_channel": 16},
        order=_SEQ2SEQ_ORDER,
        training=False,
    ),
    Row("moonshine", "AutoModelForSpeechSeq2Seq", "wave_and_text", order=_SEQ2SEQ_ORDER, training=False),
    Row("encodec", "AutoModel", "wave_of_one_channel", {"hidden_size": 32, "codebook_dim": 32}, training=False),
    Row("dac", "AutoModel", "wave_of_one_channel", training=False),
]
_MULTIMODAL = [
    *_rows(
        "AutoModel", "image_and_text", "clip siglip chinese_clip clipseg owlvit altclip blip metaclip_2", training=False
    ),
    Row("vilt", "AutoModel", "flat_image_and_text"),
    Row("git", "AutoModelForCausalLM", "image_and_text"),
    Row("lxmert", "AutoModel", "text_and_features", {"l_layers": 2, "r_layers": 2, "x_layers": 2}),
    Row("visual_bert", "AutoModel", "text_and_embeddings", {"visual_embedding_dim": 32}),
    Row("llava", "AutoModelForImageTextToText", "image_in_text", {"image_token_index": 95}),
    Row(
        "layoutlmv3",
        "AutoModelForTokenClassification",
        "image_text_and_boxes",
        {"input_size": 32, "coordinate_size": 4, "shape_size": 8},
    ),
]
_OTHERS = [
    Row("patchtst", "PatchTSTForPrediction", "series", {"num_input_channels": 2}, training=False),
    Row("patchtsmixer", "PatchTSMixerForPrediction", "series", {"num_input_channels": 2}, training=False),
    *_rows(
        "AutoModel",
        "probabilistic_series",
        "time_series_transformer informer",
        options={"prediction_length": 4, "context_length": 8, "num_time_features": 2, "lags_sequence": [1, 2, 3]},
        order=_SEQ2SEQ_ORDER,
        training=False,
    ),
    Row(
        "autoformer",
        "AutoModel",
        "probabilistic_series",
        {
            "prediction_length": 4,
            "context_length": 8,
            "num_time_features": 2,
            "lags_sequence": [1, 2, 3],
            "label_length": 4,
            "moving_average": 3,
        },
        order=_SEQ2SEQ_ORDER,
        training=False,
    ),
    Row("decision_transformer", "AutoModel", "trajectory"),
]
ROWS = [*_TEXT_ENCODERS, *_DECODERS, *_STATE_SPACE, *_SEQ2SEQ, *_VISION, *_AUDIO, *_MULTIMODAL, *_OTHERS]
