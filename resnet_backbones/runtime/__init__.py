"""Runs exported models with numpy and LiteRT only: no TensorFlow, no Keras.

```python
from resnet_backbones import runtime

model = runtime.load("detector.tflite")
for found in model.predict(images):           # images of any size, in the units the Keras model was trained on
    print(found.names, found.boxes, found.scores)
model.raw(images)                             # the network's own outputs, as the Keras model gives them
```

What the file needs to be decoded (task, anchors, classes, input scaling) travels inside it, see
:mod:`resnet_backbones.runtime.metadata`.
"""

from __future__ import annotations

from resnet_backbones.runtime.metadata import append_metadata, read_metadata
from resnet_backbones.runtime.model import Model, load
from resnet_backbones.runtime.results import Classification, Detections

__all__ = ["Classification", "Detections", "Model", "append_metadata", "load", "read_metadata"]
