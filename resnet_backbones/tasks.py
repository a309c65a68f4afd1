"""What a task's outputs mean.

Quantization, export and runtime know no task. An adapter registers a :class:`TaskDescriptor` for the task
class it builds; they look the descriptor up by class (a quantized model's class is a subclass of the task's,
so the lookup follows the method resolution order).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resnet_backbones.backbones.plugins import note_table

# Classes of these packages are described by these adapters, imported when such a model is first met.
_ADAPTERS = {
    "keras_cv": "resnet_backbones.adapters.keras_cv",
}


@dataclass(frozen=True)
class TaskDescriptor:
    """Describes a task class to quantization, export and runtime.

    Args:
        name: the task, e.g. ``"retinanet"``; the runtime picks its decoder by it.
        metadata: function of a model returning JSON-able facts the runtime needs to decode its outputs
            (number of classes, anchors, box format, thresholds).
        keep_float: patterns (``fnmatch``) of layer names that quantization leaves in float, e.g. a
            distribution-focal box decoding.
        int8_share: least share of the multiply-accumulates, 0 to 1, that an int8 file computes in int8, for its report
            to pass.
        class_per_pixel: whether the output holds a score a class and pixel. The report of a file then looks at the
            classes of the pixels, besides values.
    """

    name: str
    metadata: Callable[[Any], dict[str, Any]]
    keep_float: tuple[str, ...] = ()
    int8_share: float = 0.99
    class_per_pixel: bool = False


_TASKS: dict[type, TaskDescriptor] = {}
note_table(_TASKS)


def register_task(model_class: type, descriptor: TaskDescriptor) -> None:
    """Registers ``descriptor`` for ``model_class`` and its subclasses; a second call replaces the first."""
    _TASKS[model_class] = descriptor


def task_of(model: Any) -> TaskDescriptor | None:
    """The descriptor of ``model``'s class or nearest base class; ``None`` when it is no known task."""
    for cls in type(model).__mro__:
        adapter = _ADAPTERS.get(cls.__module__.split(".")[0])
        if cls not in _TASKS and adapter is not None:
            importlib.import_module(adapter)
        if cls in _TASKS:
            return _TASKS[cls]
    return None


def task_facts(model: Any) -> dict[str, Any]:
    """What the runtime needs to read a model's outputs: the task's ``name``, and what its descriptor says.

    Args:
        model: any model; one of no known task gives plain tensors.
    """
    task = task_of(model)
    return {"name": "tensors"} if task is None else {"name": task.name, **task.metadata(model)}
