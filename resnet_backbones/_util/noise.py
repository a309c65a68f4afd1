"""How far values are from those they stand for: signal to noise ratios and cosines, of sums over the values."""

from __future__ import annotations

import numpy as np

#: dB of values without any error, in place of infinity.
NO_ERROR = 200.0


def relative_noise(signal: float, noise: float) -> float:
    """Noise as a part of the signal.

    Args:
        signal: sum of the squares of the right values.
        noise: sum of the squares of the differences.
    """
    return float(noise / signal) if signal else float(noise > 0)


def decibel(noise: float) -> float:
    """The signal to noise ratio in dB, of noise relative to the signal; ``NO_ERROR`` at most."""
    return NO_ERROR if noise <= 10 ** (-NO_ERROR / 10) else float(-10.0 * np.log10(noise))


def cosine(signal: float, product: float, power: float) -> float:
    """The cosine between two lists of values.

    Args:
        signal: sum of the squares of the one.
        product: sum of the products.
        power: sum of the squares of the other.
    """
    norm = np.sqrt(signal * power)
    return float(product / norm) if norm else float(signal == power)
