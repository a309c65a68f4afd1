"""Detection post-processing within a LiteRT file, by LiteRT's own operator, which standard task libraries read.

Boxes are deltas to anchors, ``(y, x, h, w)``, centre and size; the operator decodes and suppresses them.

Source: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/kernels/detection_postprocess.cc; the box
coding of Ren et al., "Faster R-CNN", 2015, https://arxiv.org/abs/1506.01497
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.detections import OUTPUTS, detection_facts
from resnet_backbones.export.graph import ExportGraph
from resnet_backbones.export.litert.flatbuffer import Appender, read_model, write_model
from resnet_backbones.runtime.boxes import generate_anchors

OPERATOR = "TFLite_Detection_PostProcess"
_NEEDED = ("anchors", "box_variance", "nms", "num_classes")
_SUPPRESSIONS = ("NonMaxSuppression", "MultiClassNonMaxSuppression")


def check_post_processing(name: str, task: dict[str, Any], batch: int | None) -> None:
    """Checks that LiteRT's operator can decode what a model returns.

    Args:
        name: of the model.
        task: what its adapter says of it.
        batch: images a call.

    Raises:
        ValueError: it cannot; the message says why.
    """
    if any(key not in task for key in _NEEDED):
        raise ValueError(
            f"{name!r} gives no boxes as deltas to anchors, as RetinaNet does, so {OPERATOR} cannot decode them. Leave "
            "postprocessing out: the runtime decodes what the file gives."
        )
    if task["nms"]["kind"] not in _SUPPRESSIONS:
        raise ValueError(f"{OPERATOR} cannot do {task['nms']['kind']}; it does {' and '.join(_SUPPRESSIONS)}.")
    if batch != 1:
        raise ValueError(f"{OPERATOR} takes one image a call, so batch must be 1, not {batch}.")


def with_post_processing(
    data: bytes, graph: ExportGraph, task: dict[str, Any], size: tuple[int, int]
) -> tuple[bytes, dict[str, Any]]:
    """Puts post-processing behind a detector.

    Args:
        data: the file, giving the parts of ``box`` and ``classification``.
        graph: what it was made of.
        task: what the adapter says of the model.
        size: (height, width) of the network's input, in which anchors are given.

    Returns:
        The file, giving ``boxes`` (1, n, 4) as top, left, bottom, right in fractions of the image, ``classes``
        and ``scores`` (1, n) and ``count`` (1); and what the runtime must know of it.
    """
    model = read_model(data)
    add = Appender(model)
    parts = dict(zip(graph.part_names, (int(index) for index in add.graph.outputs), strict=True))
    joined = {output["name"]: _joined(add, [parts[part] for part in output["parts"]]) for output in graph.outputs}
    boxes, scores = joined["box"], joined["classification"]
    if task["nms"]["from_logits"]:
        shape = add.graph.tensors[scores].shape
        logits, scores = scores, add.tensor("scores_of_all", shape)
        add.operator(schema.BuiltinOperator.LOGISTIC, [logits], [scores])
    anchors = add.tensor("anchors", (len(_anchors(task, size)), 4), content=_anchors(task, size))
    most = int(task["nms"]["max_detections"])
    shapes = ((1, most, 4), (1, most), (1, most), (1,))
    outputs = [add.tensor(name, shape) for name, shape in zip(OUTPUTS, shapes, strict=True)]
    add.custom(OPERATOR, [boxes, scores, anchors], outputs, _options(task))
    add.graph.outputs = outputs
    model.signatureDefs[0].outputs = [add.tensor_map(name, index) for name, index in zip(OUTPUTS, outputs, strict=True)]
    return write_model(model), detection_facts(task)


def _joined(add: Appender, parts: list[int]) -> int:
    """The parts as one float tensor."""
    tensors = [add.graph.tensors[index] for index in parts]
    for place, tensor in enumerate(tensors):
        if tensor.type != schema.TensorType.FLOAT32:
            exact = add.tensor(f"{tensor.name.decode()}_float", tensor.shape)
            add.operator(schema.BuiltinOperator.DEQUANTIZE, [parts[place]], [exact], version=2)
            parts[place] = exact
    if len(parts) == 1:
        return parts[0]
    rows = sum(int(tensor.shape[1]) for tensor in tensors)
    joined = add.tensor(f"{tensors[0].name.decode()}_joined", (1, rows, int(tensors[0].shape[2])))
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    kind = schema.BuiltinOptions.ConcatenationOptions
    add.operator(schema.BuiltinOperator.CONCATENATION, parts, [joined], options=(kind, options))
    return joined


def _anchors(task: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Centre y, centre x, height, width, in fractions of the image."""
    keys = ("sizes", "scales", "aspect_ratios", "strides", "clip_boxes")
    anchors = generate_anchors(*size, **{key: task["anchors"][key] for key in keys})
    return (anchors / np.array([*size, *size], np.float32)).astype(np.float32)


def _options(task: dict[str, Any]) -> bytes:
    from flatbuffers import flexbuffers

    nms = task["nms"]
    by_class = nms["kind"] == "MultiClassNonMaxSuppression"
    scales = dict(zip(("y_scale", "x_scale", "h_scale", "w_scale"), task["box_variance"], strict=True))
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("max_detections", int(nms["max_detections"]))
        builder.Int("max_classes_per_detection", 1)
        builder.Int("detections_per_class", int(nms.get("max_detections_per_class", nms["max_detections"])))
        builder.Bool("use_regular_nms", by_class)
        builder.Float("nms_score_threshold", float(nms["confidence_threshold"]))
        builder.Float("nms_iou_threshold", float(nms["iou_threshold"]))
        builder.Int("num_classes", int(task["num_classes"]))
        for name, variance in scales.items():
            builder.Float(name, 1.0 / float(variance))
    return bytes(builder.Finish())
