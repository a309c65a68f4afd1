"""How fast exported files of ResNet-50 run, in turns, in one process: ours in each form, and the converter's own int8.

All are ResNet-50 with strides as in the first version and a classifier's head, random weights, 224 px, 2 threads:

* LiteRT: float32; our int8 (``edge_int8``); post-training int8 that ``tf.lite.TFLiteConverter`` makes of
  keras.applications.ResNet50 by itself (the same multiply-accumulates);
* ONNX Runtime: float32; int8 with ``target="onnxruntime"`` and with ``target="tensorrt"``;
* OpenVINO, where it is installed: the float32 and the int8 file.

Each round times one run of every contestant, after one that lets the threads of the engine before settle. Files stay in
runs/int8_latency/ and are not made again; the table goes to runs/int8_latency/table.md.

    python benchmarks/int8_latency.py               # about ten minutes on two cores
    python benchmarks/int8_latency.py --size 64 --rounds 3 --folder /tmp/try
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rounds import ROOT, report

COLUMNS = ("ResNet-50", "runs in", "MB", "operators", "minimum ms", "median ms", "than its float")
# What a file must hold at the least: convolutions, sums, and pooling, mean, head and softmax; LiteRT also pads.
LEAST = {"convolutions": 53, "sums": 16, "others": 4}
#: name -> (file, backend, its float form)
CONTESTANTS = {
    "float32": ("float.tflite", "litert", None),
    "int8, `edge_int8`": ("edge.tflite", "litert", "float32"),
    "converter's own int8, keras.applications": ("converter.tflite", "litert", "float32"),
    "float32, ONNX": ("float.onnx", "onnxruntime", None),
    'int8, target="onnxruntime"': ("edge.onnx", "onnxruntime", "float32, ONNX"),
    'int8, target="tensorrt"': ("gpu.onnx", "onnxruntime", "float32, ONNX"),
    "float32, OpenVINO": ("float.onnx", "openvino", None),
    "int8, OpenVINO": ("gpu.onnx", "openvino", "float32, OpenVINO"),
}


def classifier(size: int) -> Any:
    """ResNet-50 with version 1's strides, 1,000 classes; random weights and batch norms near those of a trained one."""
    import resnet_backbones as rb
    from resnet_backbones.keras_compat import keras

    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone("resnet50_v1", input_shape=(size, size, 3))
    random = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # as built, some scales are zero and fold kernels away
            around = {"gamma": (1.0, 0.2), "beta": (0.0, 0.2), "moving_mean": (0.0, 0.2), "moving_variance": (1.0, 0.1)}
            for name, (mean, deviation) in around.items():
                variable = getattr(layer, name)
                variable.assign(random.normal(mean, deviation, variable.shape))
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.inputs, keras.layers.Dense(1000, activation="softmax")(x))


def photographs(size: int, count: int) -> np.ndarray:
    """(count, size, size, 3) cuts of scikit-learn's photographs, -1 to 1."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    cuts = []
    for number in range(count):
        photograph = load_sample_images().images[number % 2]
        top, left = (random.integers(0, length - size) for length in photograph.shape[:2])
        cuts.append(photograph[top : top + size, left : left + size])
    return np.stack(cuts).astype("float32") / 127.5 - 1.0


def converters_own(size: int, images: np.ndarray) -> bytes:
    """Post-training int8 of keras.applications' network, by LiteRT's converter alone."""
    import tensorflow as tf

    from resnet_backbones.keras_compat import keras

    model = keras.applications.ResNet50(weights=None, input_shape=(size, size, 3))
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, size, size, 3), tf.float32)
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def make_files(folder: Path, size: int) -> None:
    """Exports what is missing."""
    import resnet_backbones as rb
    from resnet_backbones._util.files import written_whole

    images = photographs(size, 16)

    def made(file: str, make: Callable[[], Any]) -> None:
        if not (folder / file).exists():
            make()

    def float_model(file: str) -> None:
        rb.export_model(classifier(size), folder / file)

    def int8_model(scheme: str, file: str, **options: Any) -> None:
        model = rb.quantize_post_training(classifier(size), scheme, calibration_data=images)
        print(rb.export_model(model, folder / file, parity_data=images[:4], **options))

    def converted() -> None:
        with written_whole(folder / "converter.tflite") as temporary:
            temporary.write_bytes(converters_own(size, images))

    for file in ("float.tflite", "float.onnx"):
        made(file, lambda file=file: float_model(file))
    made("edge.tflite", lambda: int8_model("edge_int8", "edge.tflite"))
    made("edge.onnx", lambda: int8_model("edge_int8", "edge.onnx", target="onnxruntime"))
    made("gpu.onnx", lambda: int8_model("gpu_int8", "gpu.onnx", target="tensorrt"))
    made("converter.tflite", converted)


def operators_in(path: Path) -> int:
    """How many operators the file holds."""
    if path.suffix == ".tflite":
        from resnet_backbones.export.litert.census import take_census

        return len(take_census(path.read_bytes()).operators)
    import onnx

    return len(onnx.load(path).graph.node)


def main() -> None:
    """Makes the files, times them, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "int8_latency")
    arguments = parser.parse_args()
    folder, threads = arguments.folder, arguments.threads
    folder.mkdir(parents=True, exist_ok=True)
    make_files(folder, arguments.size)

    from resnet_backbones import runtime
    from resnet_backbones.export.report.latency import time_in_turns

    names = [name for name, (_, engine, _) in CONTESTANTS.items() if engine != "openvino" or find_spec(engine)]
    runs = {
        name: runtime.load(folder / file, engine, num_threads=threads).timer()
        for name, (file, engine, _) in CONTESTANTS.items()
        if name in names
    }
    timed = {one.name: one for one in time_in_turns(runs, threads, seconds=0, least=arguments.rounds, settle=1)}
    rows = []
    for name, latency in timed.items():
        file, engine, baseline = CONTESTANTS[name]
        path = folder / file
        gain = "" if baseline is None else f"{timed[baseline].minimum / latency.minimum:.2f}x faster"
        cells = (f"{path.stat().st_size / 1e6:.1f}", str(operators_in(path)), f"{latency.minimum:.2f}")
        rows.append((name, engine, *cells, f"{latency.median:.2f}", gain))
    least = ", ".join(f"{count} {what}" for what, count in LEAST.items())
    title = f"Exported ResNet-50, {arguments.size} px, one image, {threads} threads, {arguments.rounds} rounds in turns"
    report(title, COLUMNS, rows, 2, f"The architecture needs {least}.", folder / "table.md")


if __name__ == "__main__":
    main()
