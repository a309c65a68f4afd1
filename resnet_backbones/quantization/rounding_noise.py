"""How near a quantized model comes to itself.

Whatever computes a quantized model, Keras, LiteRT or ONNX Runtime, adds in its own order and precision, so a few values
that lie next to the edge between two steps fall on its other side. A value that is a step off moves those computed of
it, some over an edge too: behind a dozen layers the two differ by about what rounding itself adds, and hardly less for
a smaller cause. So no more can be asked of a file than the model keeps against itself.

A step of 16 bits is hardly larger than what arithmetic is off by. Float32 is off by the same part of the range whatever
its steps are; and LiteRT's operators with int16 results multiply their sums by numbers of 15 bits, which are off by
1/65536, so that the largest values are off by half a step after each operator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from resnet_backbones.quantization import context

#: Largest shift of a value before rounding, in steps of 8 bits: what sums, and folded biases, in float32 are off by.
NUDGE = 3e-5
#: With 16 bits, what LiteRT's factors are off by, as a part of the value.
FACTOR_16 = 2.0**-16


@contextlib.contextmanager
def rounding_noise(seed: int) -> Iterator[None]:
    """Within it, every activation is shifted at random before it is rounded, by as much as arithmetic may be off.

    Of 8 bits, by 3e-5 of a step at most.

    Args:
        seed: of the shifts.

    Example:
        >>> expected = model(images)
        >>> with rounding_noise(seed=0):
        ...     as_good = model(images)
    """
    generator = tf.random.Generator.from_seed(seed)

    def nudge(values, step, steps):
        shift = step * NUDGE * max(1.0, steps / 255)
        if steps > 255:  # one factor per channel
            values *= 1.0 + FACTOR_16 * generator.uniform(tf.shape(values)[-1:], -1.0, 1.0)
        return values + shift * generator.uniform(tf.shape(values), -1.0, 1.0)

    with context.using(nudge=nudge):
        yield
