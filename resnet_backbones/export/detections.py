"""What a file that decodes and suppresses boxes itself gives, whatever its format."""

from __future__ import annotations

from typing import Any

#: Boxes as top, left, bottom, right in fractions of the image; of all, the first ``count`` are filled, best first.
OUTPUTS = ("boxes", "classes", "scores", "count")
#: Where a report says why operators stay in float; the ONNX operators' names begin with it.
PLACE = "postprocessing"


def detection_facts(task: dict[str, Any]) -> dict[str, Any]:
    """What the runtime must know of such a file (runtime/metadata.py).

    Args:
        task: what its adapter says of the detector.
    """
    return {
        "task": {
            "name": "detections",
            "num_classes": int(task["num_classes"]),
            "boxes": "rel_yxyx",
            "bounding_box_format": task["bounding_box_format"],
            "nms": task["nms"],
        },
        "outputs": [{"name": name, "parts": [name], "axis": 0} for name in OUTPUTS],
    }
