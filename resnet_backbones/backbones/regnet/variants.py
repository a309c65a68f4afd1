"""RegNets by timm's names: the number is the cost in units of 100 million multiply-accumulates.

Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678, appendix D. RegNetY is RegNetX with squeeze-and-excitation.
``_tv`` is torchvision's form, which rounds widths to whole groups in another way; in the others of its sizes that makes
no difference. Torchvision's names are aliases.
"""

from __future__ import annotations

from resnet_backbones.backbones.regnet.spec import RegNetSpec
from resnet_backbones.backbones.spec import Variant

_PAPER = "Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678"

# name: (depth, w0, wa, wm, group width, torchvision's name)
_TABLE = {
    "regnetx_002": (13, 24, 36.44, 2.49, 8, None),
    "regnetx_004": (22, 24, 24.48, 2.54, 16, None),
    "regnetx_004_tv": (22, 24, 24.48, 2.54, 16, "regnet_x_400mf"),
    "regnetx_006": (16, 48, 36.97, 2.24, 24, None),
    "regnetx_008": (16, 56, 35.73, 2.28, 16, "regnet_x_800mf"),
    "regnetx_016": (18, 80, 34.01, 2.25, 24, "regnet_x_1_6gf"),
    "regnetx_032": (25, 88, 26.31, 2.25, 48, "regnet_x_3_2gf"),
    "regnety_002": (13, 24, 36.44, 2.49, 8, None),
    "regnety_004": (16, 48, 27.89, 2.09, 8, "regnet_y_400mf"),
    "regnety_006": (15, 48, 32.54, 2.32, 16, None),
    "regnety_008": (14, 56, 38.84, 2.40, 16, None),
    "regnety_008_tv": (14, 56, 38.84, 2.40, 16, "regnet_y_800mf"),
    "regnety_016": (27, 48, 20.71, 2.65, 24, "regnet_y_1_6gf"),
    "regnety_032": (21, 80, 42.63, 2.66, 24, "regnet_y_3_2gf"),
}


def _description(name: str) -> str:
    kind, cost, *torchvision = name.removeprefix("regnet").split("_")
    form = ", torchvision's widths" if torchvision else ""
    attention = ": squeeze-and-excitation" if kind == "y" else ""
    return f"RegNet{kind.upper()}-{int(cost) * 100}MF{attention}{form}"


VARIANTS = {
    name: Variant(
        RegNetSpec(
            depth=depth,
            w0=w0,
            wa=wa,
            wm=wm,
            group_width=group_width,
            round_half_up=name.endswith("_tv"),
            se_ratio=0.25 if name.startswith("regnety") else 0.0,
        ),
        _description(name),
        name.split("_")[0],
        _PAPER,
        aliases=(torchvision,) if torchvision else (),
    )
    for name, (depth, w0, wa, wm, group_width, torchvision) in _TABLE.items()
}
