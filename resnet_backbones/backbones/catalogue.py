"""The library's own backbones: plain tables, name -> variant, and where their weights are published. Knows no Keras.

The facts about weights are read off timm, torchvision, Keras and KerasHub; ``tests/reference/test_sources.py`` compares
them with those libraries, parameters included. A source is written as ``weights=`` of ``create_backbone`` takes it,
where it can be downloaded as it stands (``"hf-hub:timm/resnet50.a1_in1k"``); else as the library that brings it, a
colon, and its name there: build that library's model and hand it to ``weights.from_torchvision``,
``from_keras_applications`` or ``from_keras_hub``.
"""

from __future__ import annotations

from resnet_backbones.backbones.darknet import variants as darknet
from resnet_backbones.backbones.mobilenet import variants as mobilenet
from resnet_backbones.backbones.regnet import variants as regnet
from resnet_backbones.backbones.resnet import variants as resnet
from resnet_backbones.backbones.spec import Variant

#: What the registry reads.
CATALOGUE: dict[str, Variant] = {**resnet.VARIANTS, **regnet.VARIANTS, **darknet.VARIANTS, **mobilenet.VARIANTS}

# name -> timm's tags, timm's own default first; the repository on the Hugging Face Hub is timm/{name}.{tag}
TIMM: dict[str, str] = {
    "resnet10t": "c3_in1k",
    "resnet14t": "c3_in1k",
    "resnet18": "a1_in1k a2_in1k a3_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k tv_in1k",
    "resnet18d": "ra2_in1k ra4_e3600_r224_in1k",
    "resnet26": "bt_in1k",
    "resnet26d": "bt_in1k",
    "resnet26t": "ra2_in1k",
    "resnet34": "a1_in1k a2_in1k a3_in1k bt_in1k gluon_in1k ra4_e3600_r224_in1k tv_in1k",
    "resnet34d": "ra2_in1k",
    "resnet50": (
        "a1_in1k a1h_in1k a2_in1k a3_in1k am_in1k b1k_in1k b2k_in1k bamboo bt_in1k c1_in1k c2_in1k d_in1k "
        "fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k ra_in1k ram_in1k tv2_in1k tv_in1k"
    ),
    "resnet50c": "gluon_in1k",
    "resnet50d": "ra2_in1k a1_in1k a2_in1k a3_in1k gluon_in1k ra4_e3600_r224_in1k",
    "resnet50s": "gluon_in1k",
    "resnet101": "a1h_in1k a1_in1k a2_in1k a3_in1k gluon_in1k tv2_in1k tv_in1k",
    "resnet101c": "gluon_in1k",
    "resnet101d": "ra2_in1k gluon_in1k",
    "resnet101s": "gluon_in1k",
    "resnet152": "a1h_in1k a1_in1k a2_in1k a3_in1k gluon_in1k tv2_in1k tv_in1k",
    "resnet152c": "gluon_in1k",
    "resnet152d": "ra2_in1k gluon_in1k",
    "resnet152s": "gluon_in1k",
    "resnet200d": "ra2_in1k",
    "resnetv2_18": "ra4_e3600_r224_in1k",
    "resnetv2_18d": "ra4_e3600_r224_in1k",
    "resnetv2_34": "ra4_e3600_r224_in1k",
    "resnetv2_34d": "ra4_e3600_r224_in1k ra4_e3600_r384_in1k",
    "resnetv2_50": "a1h_in1k",
    "resnetv2_101": "a1h_in1k",
    "resnext50_32x4d": (
        "a1h_in1k a1_in1k a2_in1k a3_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k ra_in1k tv2_in1k "
        "tv_in1k"
    ),
    "resnext50d_32x4d": "bt_in1k",
    "resnext101_32x4d": "fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k",
    "resnext101_32x8d": "tv_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k fb_wsl_ig1b_ft_in1k tv2_in1k",
    "resnext101_32x16d": "fb_wsl_ig1b_ft_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k",
    "resnext101_32x32d": "fb_wsl_ig1b_ft_in1k",
    "resnext101_64x4d": "c1_in1k gluon_in1k tv_in1k",
    "wide_resnet50_2": "racm_in1k tv2_in1k tv_in1k",
    "wide_resnet101_2": "tv_in1k tv2_in1k",
    "seresnet50": "a1_in1k a2_in1k a3_in1k ra2_in1k",
    "seresnet152d": "ra2_in1k",
    "seresnext26d_32x4d": "bt_in1k",
    "seresnext26t_32x4d": "bt_in1k",
    "seresnext50_32x4d": "racm_in1k gluon_in1k",
    "seresnext101_32x4d": "gluon_in1k",
    "seresnext101_32x8d": "ah_in1k",
    "seresnext101d_32x8d": "ah_in1k",
    "seresnext101_64x4d": "gluon_in1k",
    "senet154": "gluon_in1k",
    "ecaresnet26t": "ra2_in1k",
    "ecaresnet50d": "miil_in1k",
    "ecaresnet50t": "ra2_in1k a1_in1k a2_in1k a3_in1k",
    "ecaresnet101d": "miil_in1k",
    "ecaresnet269d": "ra2_in1k",
    "ecaresnetlight": "miil_in1k",
    "res2net50_14w_8s": "in1k",
    "res2net50_26w_4s": "in1k",
    "res2net50_26w_6s": "in1k",
    "res2net50_26w_8s": "in1k",
    "res2net50_48w_2s": "in1k",
    "res2net50d": "in1k",
    "res2net101_26w_4s": "in1k",
    "res2net101d": "in1k",
    "res2next50": "in1k",
    "resnetrs50": "tf_in1k",
    "resnetrs101": "tf_in1k",
    "resnetrs152": "tf_in1k",
    "resnetrs200": "tf_in1k",
    "resnetrs270": "tf_in1k",
    "resnetrs350": "tf_in1k",
    "resnetrs420": "tf_in1k",
    "resnetblur50": "bt_in1k",
    "resnetaa50": "a1h_in1k",
    "resnetaa50d": "sw_in12k_ft_in1k d_in12k sw_in12k",
    "resnetaa101d": "sw_in12k_ft_in1k sw_in12k",
    "seresnextaa101d_32x8d": "sw_in12k_ft_in1k_288 ah_in1k sw_in12k sw_in12k_ft_in1k",
    "seresnextaa201d_32x8d": "sw_in12k_ft_in1k_384 sw_in12k",
    "regnetx_002": "pycls_in1k",
    "regnetx_004": "pycls_in1k",
    "regnetx_004_tv": "tv2_in1k",
    "regnetx_006": "pycls_in1k",
    "regnetx_008": "tv2_in1k pycls_in1k",
    "regnetx_016": "tv2_in1k pycls_in1k",
    "regnetx_032": "tv2_in1k pycls_in1k",
    "regnety_002": "pycls_in1k",
    "regnety_004": "tv2_in1k pycls_in1k",
    "regnety_006": "pycls_in1k",
    "regnety_008": "pycls_in1k",
    "regnety_008_tv": "tv2_in1k",
    "regnety_016": "tv2_in1k pycls_in1k",
    "regnety_032": "ra_in1k pycls_in1k tv2_in1k",
    "darknet53": "c2ns_in1k",
    "darknetaa53": "c2ns_in1k",
    "cspdarknet53": "ra_in1k",
    "cspresnet50": "ra_in1k",
    "cspresnext50": "ra_in1k",
    "cs3darknet_m": "c2ns_in1k",
    "cs3darknet_l": "c2ns_in1k",
    "cs3darknet_x": "c2ns_in1k",
    "cs3darknet_focus_s": "ra4_e3600_r256_in1k",
    "cs3darknet_focus_m": "c2ns_in1k",
    "cs3darknet_focus_l": "c2ns_in1k",
    "cs3sedarknet_l": "c2ns_in1k",
    "cs3sedarknet_x": "c2ns_in1k",
    "cs3edgenet_x": "c2_in1k",
    "cs3se_edgenet_x": "c2ns_in1k",
    "mobilenetv2_050": "lamb_in1k",
    "mobilenetv2_100": "ra_in1k",
    "mobilenetv2_110d": "ra_in1k",
    "mobilenetv2_120d": "ra_in1k",
    "mobilenetv2_140": "ra_in1k",
    "mobilenetv3_small_050": "lamb_in1k",
    "mobilenetv3_small_075": "lamb_in1k",
    "mobilenetv3_small_100": "lamb_in1k",
    "mobilenetv3_large_100": "ra_in1k miil_in21k miil_in21k_ft_in1k ra4_e3600_r224_in1k",
    "tf_mobilenetv3_small_075": "in1k",
    "tf_mobilenetv3_small_100": "in1k",
    "tf_mobilenetv3_small_minimal_100": "in1k",
    "tf_mobilenetv3_large_075": "in1k",
    "tf_mobilenetv3_large_100": "in1k",
    "tf_mobilenetv3_large_minimal_100": "in1k",
    "efficientnet_lite0": "ra_in1k",
    "tf_efficientnet_lite0": "in1k",
    "tf_efficientnet_lite1": "in1k",
    "tf_efficientnet_lite2": "in1k",
    "tf_efficientnet_lite3": "in1k",
    "tf_efficientnet_lite4": "in1k",
}

# name -> torchvision's enumeration of weights, and its members
TORCHVISION: dict[str, str] = {
    "resnet18": "ResNet18_Weights IMAGENET1K_V1",
    "resnet34": "ResNet34_Weights IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "resnet101": "ResNet101_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "resnet152": "ResNet152_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "resnext50_32x4d": "ResNeXt50_32X4D_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "resnext101_32x8d": "ResNeXt101_32X8D_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "resnext101_64x4d": "ResNeXt101_64X4D_Weights IMAGENET1K_V1",
    "wide_resnet50_2": "Wide_ResNet50_2_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "wide_resnet101_2": "Wide_ResNet101_2_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "regnetx_004_tv": "RegNet_X_400MF_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "regnetx_008": "RegNet_X_800MF_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "regnetx_016": "RegNet_X_1_6GF_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "regnetx_032": "RegNet_X_3_2GF_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "regnety_004": "RegNet_Y_400MF_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "regnety_008_tv": "RegNet_Y_800MF_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "regnety_016": "RegNet_Y_1_6GF_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "regnety_032": "RegNet_Y_3_2GF_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "mobilenetv2_100": "MobileNet_V2_Weights IMAGENET1K_V1 IMAGENET1K_V2",
    "mobilenet_v3_small": "MobileNet_V3_Small_Weights IMAGENET1K_V1",
    "mobilenet_v3_large": "MobileNet_V3_Large_Weights IMAGENET1K_V1 IMAGENET1K_V2",
}

# name -> function of keras.applications
KERAS_APPLICATIONS: dict[str, str] = {
    "keras_resnet50": "ResNet50",
    "keras_resnet101": "ResNet101",
    "keras_resnet152": "ResNet152",
    "keras_resnet50v2": "ResNet50V2",
    "keras_resnet101v2": "ResNet101V2",
    "keras_resnet152v2": "ResNet152V2",
    "keras_mobilenetv2_035": "MobileNetV2(alpha=0.35)",
    "keras_mobilenetv2_050": "MobileNetV2(alpha=0.5)",
    "keras_mobilenetv2_075": "MobileNetV2(alpha=0.75)",
    "keras_mobilenetv2_100": "MobileNetV2(alpha=1.0)",
    "keras_mobilenetv2_130": "MobileNetV2(alpha=1.3)",
    "keras_mobilenetv2_140": "MobileNetV2(alpha=1.4)",
    "tf_mobilenetv3_small_075": "MobileNetV3Small(alpha=0.75)",
    "tf_mobilenetv3_small_100": "MobileNetV3Small",
    "tf_mobilenetv3_small_minimal_100": "MobileNetV3Small(minimalistic=True)",
    "tf_mobilenetv3_large_075": "MobileNetV3Large(alpha=0.75)",
    "tf_mobilenetv3_large_100": "MobileNetV3Large",
    "tf_mobilenetv3_large_minimal_100": "MobileNetV3Large(minimalistic=True)",
}

# name -> KerasHub's presets
KERAS_HUB: dict[str, str] = {
    "resnet18": "resnet_18_imagenet",
    "resnet50": "resnet_50_imagenet",
    "resnet101": "resnet_101_imagenet",
    "resnet152": "resnet_152_imagenet",
    "mobilenetv3_small_050": "mobilenet_v3_small_050_imagenet",
    "mobilenetv3_small_100": "mobilenet_v3_small_100_imagenet",
    "mobilenetv3_large_100": "mobilenet_v3_large_100_imagenet mobilenet_v3_large_100_imagenet_21k",
    "resnet50d": (
        "resnet_vd_50_imagenet resnet_vd_50_ssld_imagenet resnet_vd_50_ssld_v2_imagenet "
        "resnet_vd_50_ssld_v2_fix_imagenet"
    ),
    "resnet101d": "resnet_vd_101_imagenet resnet_vd_101_ssld_imagenet",
    "resnet152d": "resnet_vd_152_imagenet",
    "efficientnet_lite0": "efficientnet_lite0_ra_imagenet",
    "cspdarknet53": "csp_darknet_53_ra_imagenet",
    "cspresnet50": "csp_resnet_50_ra_imagenet",
    "cspresnext50": "csp_resnext_50_ra_imagenet",
    "darknet53": "darknet_53_imagenet",
}


# Weights of timm's that want other pixels than the rest of their name: read off timm 1.0.31's configurations.
_PIXELS = {
    "resnet18d.ra4_e3600_r224_in1k": "minus_one_to_one",
    "resnet34.ra4_e3600_r224_in1k": "minus_one_to_one",
    "resnet50d.ra4_e3600_r224_in1k": "minus_one_to_one",
    "cs3darknet_focus_s.ra4_e3600_r256_in1k": "minus_one_to_one",
    "mobilenetv3_large_100.ra4_e3600_r224_in1k": "minus_one_to_one",
    "mobilenetv3_large_100.miil_in21k": "zero_to_one",
    "mobilenetv3_large_100.miil_in21k_ft_in1k": "zero_to_one",
}
# Beginning of a tag -> licence, from the same place; the others are apache-2.0.
_LICENCES = {"tv": "bsd-3-clause", "fb_": "cc-by-nc-4.0 (no commercial use)", "pycls": "mit", "bamboo": "not stated"}


def pixels_of(source: str, usual: str | None) -> str | None:
    """How weights want their images, by name; ``usual`` is what most of the backbone's want.

    Args:
        source: as :func:`sources_of` gives it, without a revision.
        usual: the backbone's ``preprocessing``.
    """
    return _PIXELS.get(source.removeprefix("hf-hub:timm/"), usual)


def licence_of(source: str) -> str:
    """The licence of published weights as timm's configurations state it.

    Args:
        source: as :func:`sources_of` gives it, without a revision.

    Example:
        >>> licence_of("hf-hub:timm/resnet50.tv2_in1k")
        'bsd-3-clause'
    """
    if not source.startswith("hf-hub:timm/"):
        return "not known here"
    name, _, tag = source.removeprefix("hf-hub:timm/").partition(".")
    if name.startswith(("res2net", "res2next")):
        return "unknown to timm"
    return next((licence for start, licence in _LICENCES.items() if tag.startswith(start)), "apache-2.0")


def sources_of(name: str) -> tuple[str, ...]:
    """Sources of weights for a backbone, the one to try first in front.

    Args:
        name: its name in the catalogue.

    Example:
        >>> sources_of("resnet18d")
        ('hf-hub:timm/resnet18d.ra2_in1k', 'hf-hub:timm/resnet18d.ra4_e3600_r224_in1k')
    """
    enumeration, *members = TORCHVISION.get(name, "").split() or [""]
    return (
        *(f"hf-hub:timm/{name}.{tag}" for tag in TIMM.get(name, "").split()),
        *(f"torchvision:{enumeration}.{member}" for member in members),
        *(f"keras.applications:{function}" for function in KERAS_APPLICATIONS.get(name, "").split()),
        *(f"keras_hub:{preset}" for preset in KERAS_HUB.get(name, "").split()),
    )
