"""Detection post-processing within an ONNX file, by ONNX's own operators: what the runtime does, done by the engine.

ONNX's NonMaxSuppression gives as many boxes as there are; the best of each image are then picked by TopK, so that
outputs have fixed sizes. All of it is float and stands behind the network's outputs.

Source: https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html; what TensorRT takes of it,
https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from resnet_backbones.export.detections import OUTPUTS, PLACE, detection_facts
from resnet_backbones.export.onnx.census import take_census
from resnet_backbones.export.onnx.nodes import Graph, Node
from resnet_backbones.export.request import Emitted
from resnet_backbones.runtime.decoders import DECODERS, RetinaNetDecoder, YOLOV8Decoder
from resnet_backbones.runtime.decoders.detectors import DetectorDecoder, Suppression

_MOST_OF_TENSORRT = 3839  # detections an image: its TopK takes a k below 3840


def check_post_processing(name: str, task: dict[str, Any], target: str) -> None:
    """Checks that ONNX's operators can do what the runtime does with a model's outputs.

    Args:
        name: of the model.
        task: what its adapter says of it.
        target: ``"tensorrt"`` or ``"onnxruntime"``.

    Raises:
        ValueError: the model is no detector whose boxes can be decoded, its suppression is unknown, or it gives more
            boxes than TensorRT takes.
    """
    if DECODERS.get(task["name"]) not in _DECODINGS:
        known = [known for known, decoder in DECODERS.items() if decoder in _DECODINGS]
        raise ValueError(
            f"postprocessing is for detectors, and {name!r} is none whose boxes an ONNX file can decode: its task is "
            f"{task['name']!r}, known are {' and '.join(known)}. Leave postprocessing out."
        )
    kind, most = task["nms"]["kind"], task["nms"].get("max_detections", 0)
    if kind not in _SUPPRESSIONS:
        raise ValueError(
            f"An ONNX file cannot do the {kind} of {name!r}; it does {' and '.join(_SUPPRESSIONS)}. Set "
            "model.prediction_decoder to one of these, or leave postprocessing out."
        )
    if target == "tensorrt" and most > _MOST_OF_TENSORRT:
        raise ValueError(
            f"TensorRT picks at most {_MOST_OF_TENSORRT} detections of an image, {name!r} asks for {most}: lower "
            "max_detections of its prediction_decoder, or export with target='onnxruntime'."
        )


def with_post_processing(network: Emitted, task: dict[str, Any]) -> Emitted:
    """Puts post-processing behind a detector.

    Args:
        network: the file that gives the detector's own outputs.
        task: what the adapter says of the detector.

    Returns:
        The file that gives ``boxes`` (batch, n, 4) as top, left, bottom, right in fractions of the image, ``classes``
        (batch, n) int32, ``scores`` (batch, n), best first, and ``count`` (batch,) int32, how many of the n are
        filled; the others are zeros.
    """
    batch, height, width, _ = network.metadata["input"]["shape"]
    graph = Graph(onnx.load_from_string(network.data))
    names = {name: graph.new_name(f"{name}_of_network") for name in dict.fromkeys([*graph.output_names, *OUTPUTS])}
    for old, new in names.items():
        graph.rename(old, new)
    before = {id(node) for node in graph.nodes}
    _add_post_processing(graph, DECODERS[task["name"]](task, (height, width)), names, batch)  # type: ignore[arg-type]
    added = {node.output for node in graph.nodes if id(node) not in before}
    model = graph.to_model()
    onnx.checker.check_model(model, full_check=True)
    return replace(
        network,
        data=model.SerializeToString(),
        census=take_census(graph, in_float=added),
        metadata={**network.metadata, **detection_facts(task)},
        bare=network,
    )


def _add_post_processing(graph: Graph, decoder: DetectorDecoder, names: dict[str, str], batch: int | None) -> None:
    """Makes a graph return detections instead of a network's outputs, which it calls by other names now."""
    op, suppression = _Operators(graph), decoder.suppression
    corners = _DECODINGS[type(decoder)](op, decoder, names[decoder.box_output])
    suppress = _SUPPRESSIONS[suppression.kind]
    chosen, classes, scores = suppress(op, suppression, corners, names[decoder.score_output], batch)
    filled = op("Greater", scores, _float(0))
    fractions = op("Div", op("GatherND", corners, chosen), _float(2 * decoder.input_size))
    most, images = suppression.most, "batch" if batch is None else batch
    found = (
        (op("Where", op("Unsqueeze", filled, _int([2])), fractions, _float(0)), TensorProto.FLOAT, (most, 4)),
        (op("Cast", op("Where", filled, classes, _int(0)), to=TensorProto.INT32), TensorProto.INT32, (most,)),
        (scores, TensorProto.FLOAT, (most,)),
        (op("ReduceSum", op("Cast", filled, to=TensorProto.INT32), _int([1]), keepdims=0), TensorProto.INT32, ()),
    )
    graph.outputs = []
    for name, (tensor, dtype, sizes) in zip(OUTPUTS, found, strict=True):
        graph.rename(tensor, name)
        graph.outputs.append(helper.make_tensor_value_info(name, dtype, [images, *sizes]))


class _Operators:
    """Adds operators to a graph; arrays among their inputs become constants."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __call__(self, kind: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        return self._graph.add(kind, [self._named(given) for given in inputs], f"{PLACE}/{kind}", **attributes)

    def largest(self, values: str, most: int) -> tuple[str, str]:
        """The largest of each row, largest first and the earlier of equals first, and where they stand."""
        found, places = (self._graph.new_name(f"{PLACE}/{what}") for what in ("TopK", "places"))
        given = [values, self._named(_int([most]))]
        self._graph.nodes.append(Node("TopK", given, [found, places], {"axis": 1}, found))
        return found, places

    def _named(self, given: str | np.ndarray) -> str:
        return given if isinstance(given, str) else self._graph.constant(given, f"{PLACE}/constant")


def _float(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def _int(values: Any) -> np.ndarray:
    return np.asarray(values, np.int64)


# --- boxes ---------------------------------------------------------------------------------------------------------


def _from_deltas(op: _Operators, decoder: RetinaNetDecoder, predicted: str) -> str:
    """Deltas to anchors (batch, n, 4) to corners yxyx in pixels."""
    centres, sizes = decoder.anchors[:, :2], decoder.anchors[:, 2:]
    deltas = op("Mul", predicted, decoder.variance)
    shifts, stretches = (op("Slice", deltas, _int([i]), _int([i + 2]), _int([2])) for i in (0, 2))
    centre = op("Add", op("Mul", shifts, sizes), centres)
    half = op("Mul", op("Exp", stretches), sizes / 2)
    return op("Concat", op("Sub", centre, half), op("Add", centre, half), axis=2)


def _from_distributions(op: _Operators, decoder: YOLOV8Decoder, predicted: str) -> str:
    """Distributions over distances to left, top, right and bottom (batch, n, 4 x bins) to corners yxyx in pixels."""
    strides = decoder.strides[:, None]
    bins = np.outer([-1, -1, 1, 1], np.arange(decoder.bins)).astype(np.float32)  # left and top go down from the centre
    shares = op("Softmax", op("Reshape", predicted, _int([-1, decoder.count, 4, decoder.bins])), axis=3)
    distances = op("ReduceSum", op("Mul", shares, bins), _int([3]), keepdims=0)
    centres = np.tile(decoder.centres[:, ::-1] / strides, 2)
    corners = op("Mul", op("Add", distances, centres), strides)
    return op("Gather", corners, _int([1, 0, 3, 2]), axis=2)


_DECODINGS: dict[type, Callable[[_Operators, Any, str], str]] = {
    RetinaNetDecoder: _from_deltas,
    YOLOV8Decoder: _from_distributions,
}


# --- suppression: of each image which boxes (their indices), their classes and scores -------------------------------


def _best_of_all_classes(
    op: _Operators, suppression: Suppression, corners: str, scores: str, batch: int | None
) -> tuple[str, str, str]:
    """KerasCV's NonMaxSuppression, on each box's best class.

    There a box goes at an overlap *equal* to the threshold too. One with no coordinate above zero, beyond the top left
    corner, suppresses but is not returned: here it is ranked last. Twice as many boxes are kept as are returned, so up
    to ``max_detections`` such boxes take no place from others.
    """
    best = op("ReduceMax", scores, axes=[2], keepdims=0)
    best = op("Sigmoid", best) if suppression.from_logits else best
    visible = op("Greater", op("ReduceMax", corners, axes=[2], keepdims=0), _float(0))
    ranked = op("Unsqueeze", op("Where", visible, best, _float(0)), _int([1]))
    candidates = op("Unsqueeze", best, _int([1]))
    below = np.nextafter(_float(suppression.iou), _float(0))
    limit = 2 * suppression.most if suppression.iou > 0 else 1  # at 0 the best box suppresses every other
    kept = _suppress(op, corners, candidates, limit, below, suppression.confidence)
    found, rows = _best_of_image(op, kept, ranked, suppression.most, batch)
    chosen = op("Gather", rows, _int([0, 2]), axis=2)
    of_classes = op("GatherND", scores, chosen)
    of_classes = op("Sigmoid", of_classes) if suppression.from_logits else of_classes
    return chosen, op("ArgMax", of_classes, axis=2, keepdims=0), found


def _best_of_each_class(
    op: _Operators, suppression: Suppression, corners: str, scores: str, batch: int | None
) -> tuple[str, str, str]:
    """KerasCV's MultiClassNonMaxSuppression, each class by itself, then the best of all."""
    scores = op("Sigmoid", scores) if suppression.from_logits else scores
    candidates = op("Transpose", scores, perm=[0, 2, 1])
    limit, confidence = suppression.most_per_class, suppression.confidence
    kept = _suppress(op, corners, candidates, limit, _float(suppression.iou), confidence)
    found, rows = _best_of_image(op, kept, candidates, suppression.most, batch)
    return op("Gather", rows, _int([0, 2]), axis=2), op("Gather", rows, _int(1), axis=2), found


def _suppress(op: _Operators, corners: str, scores: str, limit: int, iou: np.ndarray, confidence: float) -> str:
    """Rows of (image, class, box), image by image, class by class, best first."""
    return op("NonMaxSuppression", corners, scores, _int(limit), iou, _float(confidence))


def _best_of_image(op: _Operators, kept: str, scores: str, most: int, batch: int | None) -> tuple[str, str]:
    """Picks each image's best rows of those that were kept, which are of all images.

    Args:
        op: adds operators.
        kept: (rows, 3): image, class, box.
        scores: (batch, classes, boxes).
        most: how many to pick.
        batch: images a call; ``None`` for any number.

    Returns:
        Their scores (batch, most), 0 where there are fewer, and the rows (batch, most, 3).
    """
    rows = op("Pad", kept, _int([0, 0, most, 0]))  # so that there are enough, by rows that are of no image
    image = op("Pad", op("Gather", kept, _int(0), axis=1), _int([0, most]), _int(-1))
    images: str | np.ndarray = _int(np.arange(batch or 0))
    if batch is None:
        count = op("Gather", op("Shape", scores), _int(0), axis=0)
        images = op("Range", _int(0), count, _int(1))
    own = op("Equal", op("Unsqueeze", images, _int([1])), image)
    found, places = op.largest(op("Where", own, op("GatherND", scores, rows), _float(0)), most)
    return found, op("Gather", rows, places, axis=0)


_SUPPRESSIONS = {
    "NonMaxSuppression": _best_of_all_classes,
    "MultiClassNonMaxSuppression": _best_of_each_class,
}
