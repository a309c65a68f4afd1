"""Runs exported models with numpy and LiteRT, ONNX Runtime or OpenVINO: no TensorFlow, no Keras.

```python
from resnet_backbones import runtime

model = runtime.load("detector.tflite")       # or "detector.onnx"; backend="openvino" runs both
for found in model.predict(images):           # arrays, paths or PIL images of any size
    print(found.names, found.boxes, found.scores)
model.predict("street.jpg", resize="letterbox")[0].draw("street.jpg").save("found.png")
model.raw(images)                             # the network's own outputs, as the Keras model gives them
```

What the file needs to be decoded (task, anchors, classes, input scaling) travels inside it, see
:mod:`resnet_backbones.runtime.files.metadata`.
"""

from __future__ import annotations

from resnet_backbones.runtime.files.metadata import append_metadata, read_metadata
from resnet_backbones.runtime.model import Model, load
from resnet_backbones.runtime.results import Classification, Detections, Segmentation

__all__ = ["Classification", "Detections", "Model", "Segmentation", "append_metadata", "load", "read_metadata"]
