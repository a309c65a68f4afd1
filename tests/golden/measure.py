"""What is in an exported file, read by the formats' own libraries and not by ours.

What weights alone decide is kept exactly: operators, and a hash of integer constants (a change in how this library
names, orders or joins them does not count). What a CPU's rounding reaches is kept as sums and compared with a bound:
biases (their integers move by one where a square root's last bit does), scales, float constants, outputs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

#: Largest difference of two sums that is none, as a share of the sum of sizes.
BOUNDS = {"biases": 1e-5, "floats": 1e-6, "log2_scales": 3e-7}
#: The same of outputs, as a share of their standard deviation. Engines may round an integer up or down, and each
#: rounding moves those after it.
OUTPUTS, QUANTIZED_OUTPUTS = 1e-3, 0.05


def constants_and_operators(path: Path) -> dict[str, Any]:
    """Operators, integers, biases, floats and scales of a ``.tflite`` or ``.onnx``."""
    found = _Found()
    (_read_tflite if path.suffix == ".tflite" else _read_onnx)(path, found)
    facts = {
        "operators": dict(sorted(found.operators.items())),
        "integers": {kind: f"{len(one)} {_hash(*sorted(one))}" for kind, one in sorted(found.integers.items())},
        "biases": _summed(found.biases),
        "floats": _summed(found.floats),
        "log2_scales": _summed([np.log2(scale) for scale in found.scales]),
        "zero_points": _summed(found.zero_points),
    }
    return {field: value for field, value in facts.items() if value}


def summary(outputs: dict[str, np.ndarray]) -> dict[str, list[Any]]:
    """Name -> shape, mean, standard deviation and a random projection, which any value in another place changes."""
    found = {}
    for name, values in outputs.items():
        values = np.asarray(values, np.float64)
        direction = np.random.default_rng(0).uniform(-1, 1, values.shape)
        projected = np.sum(values * direction) / np.linalg.norm(direction)
        found[name] = ["x".join(map(str, values.shape)), *(_short(x) for x in (values.mean(), values.std(), projected))]
    return found


class _Found:
    """What a file holds, not yet in short."""

    def __init__(self) -> None:
        self.operators: Counter[str] = Counter()
        self.integers: dict[str, list[str]] = {}
        self.biases: list[np.ndarray] = []
        self.floats: list[np.ndarray] = []
        self.scales: list[np.ndarray] = []
        self.zero_points: list[np.ndarray] = []

    def add(self, dtype: str, shape: Any, data: bytes, *, scaled: bool) -> None:
        """Adds a constant; ``scaled``: its integers stand for numbers of its own scale."""
        if dtype in ("float32", "float16"):
            self.floats.append(np.frombuffer(data, dtype).astype(np.float64))
        elif scaled and dtype in ("int32", "int64"):
            self.biases.append(np.frombuffer(data, dtype).astype(np.float64))
        else:
            self.integers.setdefault(dtype, []).append(_hash(str(tuple(shape)).encode(), data))


def _read_tflite(path: Path, found: _Found) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    types = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    (graph,) = model.subgraphs
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        found.operators[f"{kind} {types[graph.tensors[operator.outputs[0]].type]}"] += 1
    used = {int(index) for one in (*graph.operators, graph) for index in (*one.inputs, *one.outputs)}
    for tensor in (tensor for index, tensor in enumerate(graph.tensors) if index in used):
        quantization = tensor.quantization
        scaled = quantization is not None and quantization.scale is not None and len(quantization.scale) > 0
        if scaled:
            found.scales.append(np.array(quantization.scale, np.float64))
            found.zero_points.append(np.array(quantization.zeroPoint, np.float64))
        data = model.buffers[tensor.buffer].data
        if data is not None:
            shape = [] if tensor.shape is None else list(map(int, tensor.shape))
            found.add(types[tensor.type], shape, np.asarray(data, np.uint8).tobytes(), scaled=scaled)


def _read_onnx(path: Path, found: _Found) -> None:
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    for node in graph.node:
        found.operators[node.op_type] += 1
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    scaled, ranges = set(), set()
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scaled.add(node.input[0])
            found.scales.append(constants[node.input[1]].astype(np.float64))
            found.zero_points += [constants[name].astype(np.float64) for name in node.input[2:]]
            ranges.update(node.input[1:])
    for name, value in constants.items():
        if name not in ranges:
            found.add(str(value.dtype), value.shape, value.tobytes(), scaled=name in scaled)


def _hash(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
    return digest.hexdigest()[:12]


def _summed(arrays: list[np.ndarray]) -> list[float]:
    """How many arrays, how many values, their sum and the sum of their sizes; nothing of nothing."""
    if not arrays:
        return []
    values = np.concatenate([np.ravel(array) for array in arrays])
    return [len(arrays), values.size, _short(values.sum()), _short(np.abs(values).sum())]


def _short(value: float) -> float:
    return float(f"{value:.9g}")


def differences(old: dict[str, Any], new: dict[str, Any], *, quantized: bool) -> dict[str, str]:
    """Field -> what it was and what it is, of two measurements of one file; empty if none differs."""
    found = {}
    before_all, after_all = _flat(old), _flat(new)
    for field in sorted({*before_all, *after_all}):
        before, after = before_all.get(field), after_all.get(field)
        if before == after:
            continue
        near = False
        if before and after and field.startswith("outputs."):
            near = _near(before, after, 1, (QUANTIZED_OUTPUTS if quantized else OUTPUTS) * before[2])
        elif before and after and field in BOUNDS:
            near = _near(before, after, 2, BOUNDS[field] * before[3])
        if not near:
            found[field] = f"{before} -> {after}"
    return found


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """Nested fields as ``"operators.CONV_2D int8"``."""
    nested = {field: value if isinstance(value, dict) else {"": value} for field, value in facts.items()}
    return {f"{field}.{key}".strip("."): one for field, value in nested.items() for key, one in value.items()}


def _near(one: list[Any], other: list[Any], exact: int, bound: float) -> bool:
    """Whether the first ``exact`` entries are equal and the others within a bound."""
    return one[:exact] == other[:exact] and bool(np.allclose(one[exact:], other[exact:], rtol=0, atol=bound))
