"""timm imports torchvision, whose compiled operators may be missing beside a CPU build of torch: declare them first."""

import torch

if not hasattr(torch.ops.torchvision, "nms"):
    _LIBRARY = torch.library.Library("torchvision", "DEF")  # kept: the operators live as long as it does
    _LIBRARY.define("nms(Tensor x) -> Tensor")
    _LIBRARY.define("qnms(Tensor x) -> Tensor")
