"""ResNets and their kin, by the names and letters timm and GluonCV use.

- no letter: the paper's net with the stride on the 3x3 convolution ("v1.5"); ``_v1``: on the 1x1 before it, as in the
  paper
- c: deep stem, three 3x3 convolutions; d: c and average-pooled shortcuts; s: a deep stem twice as wide
- t: a tiered deep stem and average-pooled shortcuts
- ``keras_``: keras.applications' own: v1 with biases before batch norm; v2 whose stages stride in their last block
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.spec import Variant

_HE_2015 = "He et al. 2015, https://arxiv.org/abs/1512.03385"
_HE_2016 = "He et al. 2016, https://arxiv.org/abs/1603.05027"
_ZAGORUYKO = "Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146"

_D: dict[str, Any] = {"stem": "deep", "stem_width": 32, "shortcut": "avg_pool"}
_T: dict[str, Any] = {"stem": "deep_tiered", "stem_width": 32, "shortcut": "avg_pool"}
_C, _S = {"stem": "deep", "stem_width": 32}, {"stem": "deep", "stem_width": 64}
_BASIC: dict[str, Any] = {"block": "basic"}
_32X4, _32X8 = {"groups": 32, "group_width": 4}, {"groups": 32, "group_width": 8}
_64X4 = {"groups": 64, "group_width": 4}
_SENET = {**_64X4, **_S, "shortcut_kernel": 3, "reduce_first": 2}

_18, _26, _34 = (2, 2, 2, 2), (2, 2, 2, 2), (3, 4, 6, 3)
_50, _101, _152, _200 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3)
_201, _269 = (3, 24, 36, 4), (3, 30, 48, 8)

Rows = dict[str, tuple[tuple[int, ...], dict[str, Any], str] | tuple[tuple[int, ...], dict[str, Any], str, int]]


def _family(family: str, paper: str, rows: Rows, preprocessing: str = "imagenet", **fields: Any) -> dict[str, Variant]:
    """Variants of rows: name -> depths, what else the spec says, description, input size unless it is 224."""
    return {
        name: Variant(
            ResNetSpec(**{**fields, **more}, depths=depths),
            text,
            family,
            paper,
            size[0] if size else 224,
            preprocessing,
        )
        for name, (depths, more, text, *size) in rows.items()
    }


# --- ResNet ----------------------------------------------------------------------------------------------------------

_BAG_OF_TRICKS = "He et al. 2018, https://arxiv.org/abs/1812.01187"
_GLUON = "Guo et al. 2019, https://arxiv.org/abs/1907.04433"
_TIMM = "Wightman et al. 2021, https://arxiv.org/abs/2110.00476"

# layers: (block, depths)
_DEPTHS = {
    10: ("basic", (1, 1, 1, 1)),
    14: ("bottleneck", (1, 1, 1, 1)),
    18: ("basic", (2, 2, 2, 2)),
    26: ("bottleneck", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}

# letter: (what it changes, description, paper)
_LETTERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "": ({}, "", _HE_2015),
    "c": (_C, "deep stem", _BAG_OF_TRICKS),
    "d": (_D, "deep stem, average-pooled shortcuts", _BAG_OF_TRICKS),
    "s": (_S, "wide deep stem", _GLUON),
    "t": (_T, "tiered deep stem, average-pooled shortcuts", _TIMM),
}

_KERAS: dict[str, Any] = {"conv_bias": True, "bn_epsilon": 1.001e-5, "bn_momentum": 0.99, "zero_init_last": False}


def _description(layers: int, letter: str, block: str, text: str) -> str:
    return f"ResNet-{layers}-{letter.upper()}: {text}" if letter else f"ResNet-{layers}{' (v1.5)' * (block != 'basic')}"


VARIANTS = {
    f"resnet{layers}{letter}": Variant(
        ResNetSpec(block=block, depths=depths, **changes), _description(layers, letter, block, text), "resnet", paper
    )
    for layers, (block, depths) in _DEPTHS.items()
    for letter, (changes, text, paper) in _LETTERS.items()
}
VARIANTS |= _family(
    "resnet",
    _HE_2015,
    {
        f"resnet{layers}_v1": (_DEPTHS[layers][1], {}, f"ResNet-{layers} v1: stride in the first 1x1 convolution")
        for layers in (50, 101, 152)
    },
    stride_in_1x1=True,
)
VARIANTS |= _family(
    "resnet",
    _HE_2015,
    {
        f"keras_resnet{layers}": (
            *(_DEPTHS[layers][1], _KERAS),
            f"ResNet-{layers} v1 as in keras.applications: biases before batch norm",
        )
        for layers in (50, 101, 152)
    },
    preprocessing="caffe_bgr",
    stride_in_1x1=True,
)

# --- ResNet v2: batch norm and activation before each convolution ----------------------------------------------------
# timm's stride in the 3x3 convolution of a stage's first block. keras.applications' stride in that of a stage's last
# block, pool over a border of zeros after the bare stem, and have biases where no batch norm follows.

_PREACT: dict[str, Any] = {"block": "preact_basic"}

VARIANTS |= _family(
    "resnetv2",
    _HE_2016,
    {
        "resnetv2_18": ((2, 2, 2, 2), _PREACT, "ResNet-18 v2"),
        "resnetv2_18d": ((2, 2, 2, 2), {**_PREACT, **_D}, "ResNet-18-D v2: deep stem, average-pooled shortcuts"),
        "resnetv2_34": ((3, 4, 6, 3), _PREACT, "ResNet-34 v2"),
        "resnetv2_34d": ((3, 4, 6, 3), {**_PREACT, **_D}, "ResNet-34-D v2: deep stem, average-pooled shortcuts"),
        "resnetv2_50": ((3, 4, 6, 3), {}, "ResNet-50 v2"),
        "resnetv2_50d": ((3, 4, 6, 3), _D, "ResNet-50-D v2: deep stem, average-pooled shortcuts"),
        "resnetv2_50t": ((3, 4, 6, 3), _T, "ResNet-50-T v2: tiered deep stem, average-pooled shortcuts"),
        "resnetv2_101": ((3, 4, 23, 3), {}, "ResNet-101 v2"),
        "resnetv2_101d": ((3, 4, 23, 3), _D, "ResNet-101-D v2: deep stem, average-pooled shortcuts"),
        "resnetv2_152": ((3, 8, 36, 3), {}, "ResNet-152 v2"),
        "resnetv2_152d": ((3, 8, 36, 3), _D, "ResNet-152-D v2: deep stem, average-pooled shortcuts"),
    },
    preprocessing="minus_one_to_one",
    block="preact_bottleneck",
    zero_init_last=False,
)
VARIANTS |= _family(
    "resnetv2",
    _HE_2016,
    {
        f"keras_resnet{layers}v2": (
            *(_DEPTHS[layers][1], _KERAS),
            f"ResNet-{layers} v2 as in keras.applications: stages stride in their last block",
        )
        for layers in (50, 101, 152)
    },
    preprocessing="minus_one_to_one",
    block="preact_bottleneck",
    stage_strides=(2, 2, 2, 1),
    stride_in_last=True,
    stem_pool="max_zeros",
    shortcut="max_pool",
)

# --- For images of 32 pixels: three stages, a stem of one 3x3 convolution, no pooling --------------------------------
# ``resnet20`` to ``resnet110`` as in the paper (section 4.2): shortcuts without parameters, which is its option A; with
# ``shortcut="conv"`` they are what many others mean by these names. ``wrn_28_10`` has 28 layers, 10 times as wide.

_WIDTHS = (16, 32, 64)
_STEM: dict[str, Any] = {"stem": "3x3", "stem_width": 16}
_SIZE = 32

VARIANTS |= {
    f"resnet{layers}": Variant(
        ResNetSpec(block="basic", depths=((layers - 2) // 6,) * 3, widths=_WIDTHS, shortcut="pad", **_STEM),
        f"ResNet-{layers} for CIFAR: shortcuts without parameters",
        "cifar_resnet",
        _HE_2015,
        _SIZE,
        None,
        aliases=(f"cifar_resnet{layers}",),
    )
    for layers in (20, 32, 44, 56, 110)
}
VARIANTS["resnet164"] = Variant(
    ResNetSpec(block="preact_bottleneck", depths=(18, 18, 18), widths=_WIDTHS, zero_init_last=False, **_STEM),
    "ResNet-164 v2 for CIFAR",
    "cifar_resnet",
    _HE_2016,
    _SIZE,
    None,
    aliases=("resnetv2_164", "cifar_resnet164"),
)
VARIANTS |= {
    f"wrn_{layers}_{factor}": Variant(
        ResNetSpec(
            block="preact_basic",
            depths=((layers - 4) // 6,) * 3,
            widths=tuple(factor * width for width in _WIDTHS),
            zero_init_last=False,
            **_STEM,
        ),
        f"Wide ResNet of {layers} layers, {factor} times as wide, for CIFAR",
        "wrn",
        _ZAGORUYKO,
        _SIZE,
        None,
        aliases=(f"wrn{layers}_{factor}",),
    )
    for layers, factor in ((16, 8), (28, 10), (40, 4))
}

# --- ResNeXt and wide ResNet: bottlenecks whose 3x3 convolution has groups, or more channels -------------------------
# ``resnext50_32x4d`` has 32 groups, each 4 wide in the first stage; ``wide_resnet50_2`` is twice as wide inside.

VARIANTS |= _family(
    "resnext",
    "Xie et al. 2016, https://arxiv.org/abs/1611.05431",
    {
        "resnext26_32x4d": ((2, 2, 2, 2), _32X4, "ResNeXt-26, 32 groups of width 4"),
        "resnext50_32x4d": ((3, 4, 6, 3), _32X4, "ResNeXt-50, 32 groups of width 4"),
        "resnext50d_32x4d": ((3, 4, 6, 3), {**_D, **_32X4}, "ResNeXt-50-D, 32 groups of width 4"),
        "resnext101_32x4d": ((3, 4, 23, 3), _32X4, "ResNeXt-101, 32 groups of width 4"),
        "resnext101_32x8d": ((3, 4, 23, 3), _32X8, "ResNeXt-101, 32 groups of width 8"),
        "resnext101_32x16d": ((3, 4, 23, 3), {"groups": 32, "group_width": 16}, "ResNeXt-101, 32 groups of width 16"),
        "resnext101_32x32d": ((3, 4, 23, 3), {"groups": 32, "group_width": 32}, "ResNeXt-101, 32 groups of width 32"),
        "resnext101_64x4d": ((3, 4, 23, 3), _64X4, "ResNeXt-101, 64 groups of width 4"),
    },
)
VARIANTS |= _family(
    "wide_resnet",
    _ZAGORUYKO,
    {
        f"wide_resnet{layers}_2": (depths, {}, f"Wide ResNet-{layers}: 3x3 convolutions twice as wide")
        for layers, depths in ((50, _50), (101, _101))
    },
    group_width=128,
)

# --- Attention at the end of each block: squeeze and excitation, ECA, CBAM -------------------------------------------

_HU, _WANG = "Hu et al. 2017, https://arxiv.org/abs/1709.01507", "Wang et al. 2019, https://arxiv.org/abs/1910.03151"
VARIANTS |= _family(
    "seresnet",
    _HU,
    {
        "seresnet18": (_18, _BASIC, "SE-ResNet-18"),
        "seresnet34": (_34, _BASIC, "SE-ResNet-34"),
        "seresnet50": (_50, {}, "SE-ResNet-50"),
        "seresnet50t": (_50, _T, "SE-ResNet-50-T"),
        "seresnet101": (_101, {}, "SE-ResNet-101"),
        "seresnet152": (_152, {}, "SE-ResNet-152"),
        "seresnet152d": (_152, _D, "SE-ResNet-152-D", 256),
        "seresnet200d": (_200, _D, "SE-ResNet-200-D", 256),
        "seresnet269d": (_269, _D, "SE-ResNet-269-D", 256),
    },
    attention="se",
)
VARIANTS |= _family(
    "seresnext",
    _HU,
    {
        "seresnext26d_32x4d": (_26, {**_D, **_32X4}, "SE-ResNeXt-26-D, 32 groups of width 4"),
        "seresnext26t_32x4d": (_26, {**_T, **_32X4}, "SE-ResNeXt-26-T, 32 groups of width 4"),
        "seresnext50_32x4d": (_50, _32X4, "SE-ResNeXt-50, 32 groups of width 4"),
        "seresnext101_32x4d": (_101, _32X4, "SE-ResNeXt-101, 32 groups of width 4"),
        "seresnext101_32x8d": (_101, _32X8, "SE-ResNeXt-101, 32 groups of width 8"),
        "seresnext101d_32x8d": (_101, {**_D, **_32X8}, "SE-ResNeXt-101-D, 32 groups of width 8"),
        "seresnext101_64x4d": (_101, _64X4, "SE-ResNeXt-101, 64 groups of width 4"),
        "senet154": (_152, _SENET, "SENet-154: 64 groups, a wide deep stem, 3x3 shortcuts"),
    },
    attention="se",
)
VARIANTS |= _family(
    "ecaresnet",
    _WANG,
    {
        "ecaresnet26t": (_26, _T, "ECA-ResNet-26-T", 256),
        "ecaresnet50d": (_50, _D, "ECA-ResNet-50-D"),
        "ecaresnet50t": (_50, _T, "ECA-ResNet-50-T", 256),
        "ecaresnet101d": (_101, _D, "ECA-ResNet-101-D"),
        "ecaresnet200d": (_200, _D, "ECA-ResNet-200-D", 256),
        "ecaresnet269d": (_269, _D, "ECA-ResNet-269-D", 320),
        "ecaresnetlight": ((1, 1, 11, 3), {"shortcut": "avg_pool"}, "ECA-ResNet-Light"),
    },
    attention="eca",
)
VARIANTS |= _family(
    "ecaresnext",
    _WANG,
    {
        "ecaresnext26t_32x4d": (_26, {**_T, **_32X4}, "ECA-ResNeXt-26-T, 32 groups of width 4"),
        "ecaresnext50t_32x4d": (_50, {**_T, **_32X4}, "ECA-ResNeXt-50-T, 32 groups of width 4"),
    },
    attention="eca",
)
VARIANTS |= _family(
    "cbamresnet",
    "Woo et al. 2018, https://arxiv.org/abs/1807.06521",
    {
        "cbamresnet18": (_18, _BASIC, "CBAM-ResNet-18"),
        "cbamresnet34": (_34, _BASIC, "CBAM-ResNet-34"),
        "cbamresnet50": (_50, {}, "CBAM-ResNet-50"),
        "cbamresnet101": (_101, {}, "CBAM-ResNet-101"),
        "cbamresnext50_32x4d": (_50, _32X4, "CBAM-ResNeXt-50, 32 groups of width 4"),
    },
    attention="cbam",
)

# --- Res2Net and ResNet-RS -------------------------------------------------------------------------------------------
# ``res2net50_26w_4s`` splits its channels into 4 pieces ("scales"), each 26 wide in the first stage. ResNet-RS is
# ResNet-D with squeeze and excitation and a convolution in place of the stem's pooling.

VARIANTS |= _family(
    "res2net",
    "Gao et al. 2019, https://arxiv.org/abs/1904.01169",
    {
        "res2net50_14w_8s": (_50, {"group_width": 14, "scale": 8}, "Res2Net-50, 8 scales of width 14"),
        "res2net50_26w_4s": (_50, {"group_width": 26, "scale": 4}, "Res2Net-50, 4 scales of width 26"),
        "res2net50_26w_6s": (_50, {"group_width": 26, "scale": 6}, "Res2Net-50, 6 scales of width 26"),
        "res2net50_26w_8s": (_50, {"group_width": 26, "scale": 8}, "Res2Net-50, 8 scales of width 26"),
        "res2net50_48w_2s": (_50, {"group_width": 48, "scale": 2}, "Res2Net-50, 2 scales of width 48"),
        "res2net50d": (_50, {**_D, "group_width": 26, "scale": 4}, "Res2Net-50-D, 4 scales of width 26"),
        "res2net101_26w_4s": (_101, {"group_width": 26, "scale": 4}, "Res2Net-101, 4 scales of width 26"),
        "res2net101d": (_101, {**_D, "group_width": 26, "scale": 4}, "Res2Net-101-D, 4 scales of width 26"),
        "res2next50": (
            _50,
            {"groups": 8, "group_width": 4, "scale": 4},
            "Res2NeXt-50, 4 scales of 8 groups of width 4",
        ),
    },
    block="bottle2neck",
)
VARIANTS |= _family(
    "resnetrs",
    "Bello et al. 2021, https://arxiv.org/abs/2103.07579",
    {
        f"resnetrs{layers}": (depths, {}, f"ResNet-RS-{layers}", input_size)
        for layers, depths, input_size in (
            (50, _50, 160),
            (101, _101, 192),
            (152, _152, 256),
            (200, _200, 256),
            (270, (4, 29, 53, 4), 256),
            (350, (4, 36, 72, 4), 288),
            (420, (4, 44, 87, 4), 320),
        )
    },
    **_D,
    stem_pool="conv",
    attention="se",
    attention_ratio=0.25,
)

# --- Antialiased: a low-pass filter strides, `blur` (1-2-1) or `aa` (the mean of 2x2 pixels) -------------------------

_SE_32X8 = {"attention": "se", **_32X8}
_ZHANG = "Zhang 2019, https://arxiv.org/abs/1904.11486"
VARIANTS |= _family(
    "resnetblur",
    _ZHANG,
    {
        "resnetblur18": (_18, _BASIC, "ResNet-18 with blur pooling"),
        "resnetblur50": (_50, {}, "ResNet-50 with blur pooling"),
        "resnetblur50d": (_50, _D, "ResNet-50-D with blur pooling"),
        "resnetblur101d": (_101, _D, "ResNet-101-D with blur pooling"),
    },
    antialias="blur",
)
VARIANTS |= _family(
    "resnetaa",
    _ZHANG,
    {
        "resnetaa34d": (_34, {**_BASIC, **_D}, "ResNet-34-D with average antialiasing"),
        "resnetaa50": (_50, {}, "ResNet-50 with average antialiasing"),
        "resnetaa50d": (_50, _D, "ResNet-50-D with average antialiasing"),
        "resnetaa101d": (_101, _D, "ResNet-101-D with average antialiasing"),
        "seresnetaa50d": (_50, {**_D, "attention": "se"}, "SE-ResNet-50-D with average antialiasing"),
        "seresnextaa101d_32x8d": (
            *(_101, {**_D, **_SE_32X8}),
            "SE-ResNeXt-101-D with average antialiasing, 32 groups of width 8",
            288,
        ),
        "seresnextaa201d_32x8d": (
            *(_201, {**_D, **_S, **_SE_32X8}),
            "SE-ResNeXt-201-D with average antialiasing, 32 groups of width 8",
            384,
        ),
    },
    antialias="avg",
)
