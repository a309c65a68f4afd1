"""The one place that tells Keras 3 from tf_keras.

Most of the library needs ``keras``, the Keras that is running, and no more. What differs between the two is behind the
helpers here: variables, children added to built layers, what was changed on layers, policies, activations that
tf_keras lacks, models, their tensors and their mode, TFMOT's quantizers. ``operations`` (bare operations of functional
models) and ``fit`` (callbacks that save and restore training) are asked for by name.
"""

from resnet_backbones.keras_compat.activations import activation_function
from resnet_backbones.keras_compat.layer_changes import LayersAsMade, TrainableFlags, named_with_parts, numbered
from resnet_backbones.keras_compat.models import (
    KeepsTraining,
    input_signature,
    is_writing_saved_model,
    leaf_and_nested_layers,
    producer,
    rename,
    serialized_as_in_keras_files,
)
from resnet_backbones.keras_compat.policies import (
    computing_in_float32,
    global_policy,
    global_policy_name,
    policy_of,
    set_float32,
)
from resnet_backbones.keras_compat.running import (
    IS_KERAS_3,
    KERAS_FUSES_BATCH_NORM,
    ON_TENSORFLOW,
    keras,
    keras_name,
    ops,
    serializable,
)
from resnet_backbones.keras_compat.tfmot import tfmot_quantizers
from resnet_backbones.keras_compat.variables import (
    DEPTHWISE_KERNEL,
    add_child,
    added_children,
    float32_variable,
    kept_in_checkpoints,
    remove_child,
    same_on_every_replica,
    variable_path,
)

__all__ = [
    "DEPTHWISE_KERNEL",
    "IS_KERAS_3",
    "KERAS_FUSES_BATCH_NORM",
    "KeepsTraining",
    "LayersAsMade",
    "ON_TENSORFLOW",
    "TrainableFlags",
    "activation_function",
    "add_child",
    "added_children",
    "computing_in_float32",
    "float32_variable",
    "global_policy",
    "global_policy_name",
    "input_signature",
    "is_writing_saved_model",
    "kept_in_checkpoints",
    "keras",
    "keras_name",
    "leaf_and_nested_layers",
    "named_with_parts",
    "numbered",
    "ops",
    "policy_of",
    "producer",
    "remove_child",
    "rename",
    "same_on_every_replica",
    "serializable",
    "serialized_as_in_keras_files",
    "set_float32",
    "tfmot_quantizers",
    "variable_path",
]
