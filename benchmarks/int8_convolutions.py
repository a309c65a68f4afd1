"""How much faster int8 is than float in LiteRT, convolution by convolution: what a whole ResNet-50 can gain at most.

Every distinct convolution of keras.applications.ResNet50 at 224 px, with its bias and ReLU, is a file of its own, in
float and in the int8 that ``tf.lite.TFLiteConverter`` makes by itself. Each is timed alone, both forms in turns; the
last row adds up the network's 53. Additions, poolings and what joins operators only lower that gain. The table goes to
runs/int8_convolutions/table.md.

    python benchmarks/int8_convolutions.py          # about five minutes on two cores
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rounds import ROOT, report
from tqdm import tqdm

COLUMNS = ("convolution", "input", "times", "million MACs", "float us", "int8 us", "faster")


@dataclass(frozen=True)
class Convolution:
    """One convolution's shape: input (height = width, channels), kernel (height = width), stride, filters, padding."""

    size: int
    channels: int
    kernel: int
    stride: int
    filters: int
    padding: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        edge = self.size if self.padding == "SAME" else self.size - self.kernel + 1
        return (-(-edge // self.stride)) ** 2 * self.kernel**2 * self.channels * self.filters


def convolutions(size: int) -> Counter[Convolution]:
    """The network's distinct convolutions, and how often it has each."""
    from resnet_backbones.keras_compat import keras

    model = keras.applications.ResNet50(weights=None, input_shape=(size, size, 3))
    found: Counter[Convolution] = Counter()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            _, rows, _, channels = layer.input.shape
            kernel, stride = layer.kernel_size[0], layer.strides[0]
            found[Convolution(rows, channels, kernel, stride, layer.filters, layer.padding.upper())] += 1
    return found


def convert(shape: Convolution, *, int8: bool) -> bytes:
    """The convolution with a bias and a ReLU as a LiteRT file."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = random.normal(size=(shape.kernel, shape.kernel, shape.channels, shape.filters)).astype("float32") / 10
    bias = random.normal(size=shape.filters).astype("float32")
    image = (1, shape.size, shape.size, shape.channels)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(image)])
    def network(inputs):
        return tf.nn.relu(tf.nn.conv2d(inputs, kernel, shape.stride, shape.padding) + bias)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([random.normal(size=image).astype("float32")] for _ in range(4))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def main() -> None:
    """Makes the files, times them, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "int8_convolutions")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)

    from resnet_backbones import runtime
    from resnet_backbones.export.report.latency import time_in_turns

    shapes = convolutions(arguments.size)
    rows, totals = [], np.zeros(2)
    for shape, count in tqdm(shapes.items(), unit="convolution"):
        runs: dict[str, Any] = {}
        for form in ("float32", "int8"):
            path = folder / f"{form}.tflite"
            path.write_bytes(convert(shape, int8=form == "int8"))
            runs[form] = runtime.load(path, num_threads=arguments.threads).timer()
        timed = time_in_turns(runs, arguments.threads, seconds=0, least=arguments.rounds, settle=1)
        slow, fast = (one.minimum * 1e3 for one in timed)
        totals += count * np.array([slow, fast])
        kernel = f"{shape.kernel}x{shape.kernel}/{shape.stride}, {shape.filters}"
        given = f"{shape.size}x{shape.size}x{shape.channels}"
        cells = (str(count), f"{shape.macs / 1e6:.0f}", f"{slow:.0f}", f"{fast:.0f}", f"{slow / fast:.2f}x")
        rows.append((kernel, given, *cells))
    macs = sum(count * shape.macs for shape, count in shapes.items())
    slow, fast = totals
    total = (str(sum(shapes.values())), f"{macs / 1e6:.0f}", f"{slow:.0f}", f"{fast:.0f}", f"{slow / fast:.2f}x")
    rows.append(("all", "", *total))
    title = f"ResNet-50's convolutions alone, LiteRT, {arguments.size} px, {arguments.threads} threads"
    notes = f"Minimum of {arguments.rounds} rounds, both forms in turns."
    report(title, COLUMNS, rows, 2, notes, folder / "table.md")


if __name__ == "__main__":
    main()
