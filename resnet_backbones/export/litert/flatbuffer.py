"""A LiteRT file as the object tree of its schema, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema


def read_model(data: bytes) -> Any:
    """The file as the object tree of LiteRT's schema."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def write_model(model: Any) -> bytes:
    """The object tree as a file's bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def kind_of(model: Any, operator: Any) -> int:
    """The number of an operator's kind, as ``schema.BuiltinOperator`` names them."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


class Appender:
    """Adds tensors and operators behind those of a file's graph.

    Args:
        model: the object tree; changed in place.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.graph = model.subgraphs[0]

    def buffer(self, content: bytes) -> int:
        """A new buffer's index."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def tensor(self, name: str, shape: Sequence[int], content: np.ndarray | None = None) -> int:
        """A new float32 tensor's index; a constant where content is given."""
        tensor = schema.TensorT()
        tensor.name, tensor.type = name.encode(), schema.TensorType.FLOAT32
        tensor.shape = np.asarray(shape, np.int32)
        tensor.buffer = 0 if content is None else self.buffer(np.ascontiguousarray(content, np.float32).tobytes())
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(
        self,
        kind: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        version: int = 1,
        options: tuple[int, Any] | None = None,
    ) -> Any:
        """A new operator.

        Args:
            kind: as ``schema.BuiltinOperator`` numbers it.
            inputs: indices of its inputs.
            outputs: indices of its outputs.
            version: of the operator.
            options: their kind, as ``schema.BuiltinOptions`` numbers it, and the options.
        """
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), version
        self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        if options is not None:
            operator.builtinOptionsType, operator.builtinOptions = options
        self.graph.operators.append(operator)
        return operator

    def custom(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: bytes) -> None:
        """A new custom operator, its options a flexbuffer."""
        operator = self.operator(schema.BuiltinOperator.CUSTOM, inputs, outputs)
        operator.customOptions = np.frombuffer(options, np.uint8)
        self._model.operatorCodes[operator.opcodeIndex].customCode = name

    @staticmethod
    def tensor_map(name: str, index: int) -> Any:
        """An entry of a signature."""
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, int(index)
        return entry
