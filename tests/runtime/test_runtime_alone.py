"""The runtime in a process that has neither TensorFlow nor Keras."""

from __future__ import annotations

from tests.runtime import fuzz_bases
from tests.support.processes import run_python, without

PACKAGES = ("tensorflow", "keras", "tf_keras", "keras_cv", "keras_hub", "tensorflow_model_optimization", "onnx")
SCRIPT = (
    without(*PACKAGES)
    + """
try:
    import tensorflow
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("TensorFlow came through")

import numpy as np
import resnet_backbones as rb

pictures = np.random.default_rng(0).uniform(0, 255, (2, 50, 70, 3))
for path in sys.argv[1:]:
    for backend in (None, "openvino"):
        model = rb.runtime.load(path, backend)
        for resize in ("stretch", "letterbox"):
            for result in model.predict(pictures, resize=resize):
                result.draw(pictures[0])
                result.to_dict()
        print(type(result).__name__)
assert not absent & set(sys.modules)
"""
)


def test_files_of_every_task_run_without_tensorflow_and_keras(detector_file, tmp_path):
    fuzz_bases.write(tmp_path, fuzz_bases.onnx_files())
    paths = [detector_file, *(tmp_path / name for name in ("float.onnx", "int8.onnx", "yolo.onnx", "segmenter.onnx"))]
    results = ["Detections", "Classification", "Classification", "Detections", "Segmentation"]
    assert run_python(SCRIPT, *paths).split() == [name for name in results for _ in range(2)]
