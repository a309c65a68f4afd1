"""How near a quantized model comes to itself.

Whatever computes a quantized model, Keras, LiteRT or ONNX Runtime, adds in its own order and precision, so a few values
that lie next to the edge between two steps fall on its other side. A value that is a step off moves those computed of
it, some over an edge too: behind a dozen layers the two differ by about what rounding itself adds, and hardly less for
a smaller cause. So no more can be asked of a file than the model keeps against itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from resnet_backbones.quantization import context

#: Largest shift of a value before it is rounded, in steps: what sums, and biases folded, in float32 are off by.
NUDGE = 3e-5


@contextlib.contextmanager
def rounding_noise(seed: int) -> Iterator[None]:
    """Within it, every activation is shifted at random, by 3e-5 of a step at most, before it is rounded.

    Args:
        seed: of the shifts.

    Example:
        >>> expected = model(images)
        >>> with rounding_noise(seed=0):
        ...     as_good = model(images)
    """
    generator = tf.random.Generator.from_seed(seed)

    def nudge(values, step):
        return values + step * generator.uniform(tf.shape(values), -NUDGE, NUDGE)

    with context.use_nudge(nudge):
        yield
