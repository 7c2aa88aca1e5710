"""Models of timm: of each of its modules one or several that differ, small ones first."""

from functools import partial

import timm
import torch
from timm.models import get_pretrained_cfg

from tests.architectures.architecture import NUMBERED_BLOCKS, Architecture

_NAMES = """
    beit_base_patch16_224 halonet_h1 eca_botnext26ts_256 lambda_resnet26t mobileone_s2 gernet_s regnetz_b16
    seresnext26ts bat_resnext26ts repvgg_a0 cait_xxs24_224 coat_tiny coat_lite_tiny convit_tiny convmixer_768_32
    convnext_atto convnext_zepto_rms convnextv2_atto cpubone_nano crossvit_tiny_240 crossvit_9_dagger_240 csatv2
    cs3darknet_focus_s cs3darknet_s darknet17 darknet53 cspresnet50 cspresnext50 cspnext_tiny davit_tiny
    deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224 densenet121 densenetblur121d
    dla46x_c dla34 dla60_res2next dpn48b dpn68 edgenext_xx_small edgenext_small_rw efficientformer_l1
    efficientformerv2_s0 efficientnet_b0 efficientnetv2_rw_t mobilenetv1_100 mobilenetv2_050 mixnet_s mnasnet_100
    semnasnet_050 fbnetc_100 spnasnet_100 tf_efficientnet_lite0 tinynet_e efficientvim_m1 efficientvit_b0
    efficientvit_l1 efficientvit_m0 eva02_tiny_patch14_336 vit_small_patch16_dinov3 vit_pe_core_tiny_patch16_384
    fasternet_t0 fastvit_t8 fastvit_mci0 focalnet_tiny_srf gcvit_xxtiny ghostnet_050 ghostnetv2_100 ghostnetv3_050
    hardcorenas_a hgnet_tiny hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_t inception_next_atto
    inception_resnet_v2 inception_v3 inception_v4 lcnet_050 lcnetv2_small levit_128s levit_conv_128s lowformer_b0
    mambaout_femto maxvit_rmlp_pico_rw_256 coatnet_nano_rw_224 coatnext_nano_rw_224 poolformer_s12 poolformerv2_s12
    caformer_s18 convformer_s18 gmlp_ti16_224 gmixer_12_224 resmlp_12_224 mixer_s32_224 mobilenetv3_small_050
    mobilenetv4_conv_small_035 mobilenetv4_hybrid_medium mobilenetv5_base mobilevit_xxs mobilevitv2_050 mvitv2_tiny
    nasnetalarge naflexvit_base_patch16_gap nest_tiny nextvit_small nf_regnet_b0 nf_ecaresnet26 nf_resnet50
    dm_nfnet_f0 pit_ti_224 pit_ti_distilled_224 pnasnet5large pvt_v2_b0 pvt_v2_b2_li qwen3_vit_88m rdnet_tiny
    regnetx_002 regnety_004 regnetv_040 repghostnet_050 repvit_m0_9 res2net50_26w_4s res2next50 resnest14d resnet10t
    resnet50_gn resnetaa50d seresnet50 ecaresnet26t resnetrs50 resnetblur50 resnetv2_18 resnetv2_50x1_bit rexnet_100
    rexnetr_100 selecsls42 legacy_seresnet18 legacy_seresnext26_32x4d sequencer2d_s shvit_s1 skresnet18
    skresnext50_32x4d starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swin_s3_tiny_224
    swinv2_tiny_window8_256 swinv2_cr_tiny_224 swinv2_cr_tiny_ns_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224
    tresnet_m twins_pcpvt_small twins_svt_small vgg11 vgg11_bn visformer_tiny vit_tiny_patch16_224
    vit_small_patch32_224 vit_relpos_small_patch16_224 vit_tiny_r_s16_p8_224 vit_small_r26_s32_224 vitamin_small_224
    volo_d1_224 vovnet39a ese_vovnet19b_slim xcit_nano_12_p16_224 xception41 xception65 legacy_xception
    vit_base_patch16_rpn_224 vit_xsmall_patch16_clip_224 samvit_base_patch16_224
"""
_SIDES = {
    "halonet_h1": 256,
    "bat_resnext26ts": 256,
    "inception_resnet_v2": 299,
    "inception_v3": 299,
    "inception_v4": 299,
    "legacy_xception": 128,
}


def architectures() -> list[Architecture]:
    return [
        Architecture("timm", name, partial(timm.create_model, name), partial(_images, name), NUMBERED_BLOCKS)
        for name in _NAMES.split()
    ]


def _images(name: str) -> tuple[torch.Tensor]:
    configuration = get_pretrained_cfg(name)
    side = _SIDES.get(name, configuration.input_size[1] if configuration.fixed_input_size else 64)
    return (torch.rand(2, 3, side, side),)
