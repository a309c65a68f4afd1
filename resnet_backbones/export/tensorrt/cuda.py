"""The few calls of CUDA that timing an engine needs, each checked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from resnet_backbones.export.tensorrt.missing import TensorRTMissingError


class Cuda:
    """CUDA's runtime on the first GPU.

    Raises:
        TensorRTMissingError: ``cuda-python`` is not installed, or no GPU can be used.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise TensorRTMissingError(
                "Timing an engine needs CUDA's Python package, which is not installed: pip install cuda-python."
            ) from error
        self._runtime: Any = runtime
        status, count = runtime.cudaGetDeviceCount()
        if int(status) != 0 or count == 0:
            raise TensorRTMissingError(
                f"No GPU can be used (CUDA says {status}): run this on a machine with an NVIDIA GPU and its driver; "
                "nvidia-smi lists what is there."
            )
        properties = self._call(runtime.cudaGetDeviceProperties, 0)
        self.name: str = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)

    @contextlib.contextmanager
    def memory(self) -> Iterator[Callable[[int], int]]:
        """A function that allocates bytes of zeros on the GPU and gives their address; freed at the end."""
        addresses: list[int] = []

        def allocate(size: int) -> int:
            address = self._call(self._runtime.cudaMalloc, max(size, 1))
            addresses.append(address)
            self._call(self._runtime.cudaMemset, address, 0, max(size, 1))
            return address

        try:
            yield allocate
        finally:
            for address in addresses:
                self._call(self._runtime.cudaFree, address)

    @contextlib.contextmanager
    def stream(self) -> Iterator[int]:
        """A queue of work."""
        stream = self._call(self._runtime.cudaStreamCreate)
        try:
            yield int(stream)
        finally:
            self._call(self._runtime.cudaStreamDestroy, stream)

    def synchronize(self, stream: int) -> None:
        """Waits until a queue is empty."""
        self._call(self._runtime.cudaStreamSynchronize, stream)

    def _call(self, function: Callable[..., tuple], *arguments: Any) -> Any:
        status, *values = function(*arguments)
        if int(status) != 0:
            raise RuntimeError(f"CUDA's {function.__name__} failed: {status}. Is the GPU's memory full, or in use?")
        return values[0] if values else None
