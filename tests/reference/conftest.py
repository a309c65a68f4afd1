"""What the reference tests need before they import torchvision, and which part of them runs.

``REFERENCE_PART=2/6`` runs the comparisons of every sixth name, from the second; without it, all of them run.
"""

from __future__ import annotations

import os
import re

import pytest
import torch

# timm imports torchvision, whose compiled operators may be missing beside a CPU build of torch: declare them first.
if not hasattr(torch.ops.torchvision, "nms"):
    _LIBRARY = torch.library.Library("torchvision", "DEF")  # kept: the operators live as long as it does
    _LIBRARY.define("nms(Tensor x) -> Tensor")
    _LIBRARY.define("qnms(Tensor x) -> Tensor")


@pytest.hookimpl(trylast=True)  # so that -k and -m have chosen before
def pytest_collection_modifyitems(config, items):
    """Keeps the part that ``REFERENCE_PART`` names: whole names, so that each is compared with all its sources."""
    asked = os.environ.get("REFERENCE_PART")
    if not asked:
        return
    match = re.fullmatch(r"(\d+)/(\d+)", asked)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise pytest.UsageError(f"REFERENCE_PART={asked!r}: write e.g. 2/6, the second of six parts.")
    part, parts = int(match[1]) - 1, int(match[2])
    name_of = {item: item.callspec.params.get("name") for item in items if hasattr(item, "callspec")}
    names = sorted({name for name in name_of.values() if isinstance(name, str)})
    chosen = set(names[part::parts])
    kept = [item for item in items if not isinstance(name_of.get(item), str) or name_of[item] in chosen]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept
    if getattr(config, "workerinput", None) is None:
        print(f"REFERENCE_PART={asked}: {len(chosen)} of {len(names)} names")
