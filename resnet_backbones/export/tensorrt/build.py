"""Builds a TensorRT engine of an ONNX file and times it, where TensorRT and a GPU are."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from resnet_backbones._util.files import check_not_read, check_writable, written_whole


class TensorRTMissingError(ImportError, RuntimeError):
    """TensorRT, CUDA's Python package or a GPU is missing; the message says which, and what to do."""


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


OLDEST = 10  # the first version whose networks can be strongly typed as 11's always are


@dataclass(frozen=True)
class BuildReport:
    """An engine, built and timed.

    Attributes:
        path: the ONNX file.
        engine: the engine's file; ``None`` where it was not kept.
        tensorrt: version it was built with.
        gpu: name of the device.
        batch: images a call.
        size_bytes: of the engine.
        build_seconds: how long building took.
        runs: how many calls were timed.
        median_ms, minimum_ms: of a call on the GPU, data already there.
    """

    path: str
    engine: str | None
    tensorrt: str
    gpu: str
    batch: int
    size_bytes: int
    build_seconds: float
    runs: int
    median_ms: float
    minimum_ms: float

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.path}  TensorRT {self.tensorrt} on {self.gpu}: {self.size_bytes / 1e6:.2f} MB, built in "
            f"{self.build_seconds:.1f} s; batch {self.batch}: median {self.median_ms:.3f} ms, "
            f"minimum {self.minimum_ms:.3f} ms of {self.runs} runs"
        )


def build(
    path: str | os.PathLike[str],
    *,
    engine: str | os.PathLike[str] | None = None,
    batch: int = 1,
    workspace_bytes: int | None = None,
    runs: int = 100,
    warmup: int = 20,
) -> BuildReport:
    """Builds a TensorRT engine of an ONNX file and times it on this machine's GPU.

    The network is strongly typed: its Q/DQ say what runs in int8, its types what runs in float32 or float16. There is
    no precision to choose here; TensorRT 11 knows no other way.

    Args:
        path: the ``.onnx`` file.
        engine: where to write the engine, whole or not at all; ``None`` keeps none. An engine runs on the kind of GPU
            and the version of TensorRT it was built with only.
        batch: images a call, for files of open batch; other open sizes are an error.
        workspace_bytes: GPU memory kernels may use while running; ``None`` for all there is.
        runs: calls to time.
        warmup: calls before those.

    Returns:
        A report; printing it gives a line.

    Raises:
        FileNotFoundError: no such file.
        TensorRTMissingError: TensorRT, CUDA's Python package or a GPU is missing; the message says which, and what
            to do. It is an ``ImportError`` and a ``RuntimeError``.
        ValueError: TensorRT cannot read or build the file; the message has its own words.

    Example:
        >>> print(rb.export.tensorrt.build("detector.onnx", engine="detector.engine"))
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Export one: export_model(model, 'model.onnx').")
    if batch < 1 or runs < 1 or warmup < 0:
        raise ValueError(f"batch and runs must be at least 1, warmup at least 0; got {batch}, {runs}, {warmup}.")
    if engine is not None:
        check_not_read(engine, path)
        check_writable(engine)
    trt = _tensorrt()
    cuda = Cuda()
    started = time.perf_counter()
    plan = _build(trt, path, batch, workspace_bytes)
    seconds = time.perf_counter() - started
    times = _time(trt, cuda, plan, batch, warmup, runs)
    if engine is not None:
        with written_whole(engine) as temporary:
            temporary.write_bytes(plan)
    return BuildReport(
        path=str(path),
        engine=None if engine is None else os.fspath(engine),
        tensorrt=trt.__version__,
        gpu=cuda.name,
        batch=batch,
        size_bytes=len(plan),
        build_seconds=seconds,
        runs=runs,
        median_ms=statistics.median(times),
        minimum_ms=min(times),
    )


def _tensorrt() -> ModuleType:
    try:
        import tensorrt
    except ImportError as error:
        raise TensorRTMissingError(
            "Building an engine needs TensorRT, which is not installed: pip install tensorrt cuda-python, on a machine "
            "with an NVIDIA GPU. Without it, check(path) says whether the file follows TensorRT's rules."
        ) from error
    version = getattr(tensorrt, "__version__", "0")
    if int(version.split(".")[0]) < OLDEST:
        raise TensorRTMissingError(
            f'TensorRT {version} is too old, {OLDEST} is the oldest that will do: pip install -U "tensorrt>={OLDEST}".'
        )
    return tensorrt


def _build(trt: Any, path: Path, batch: int, workspace_bytes: int | None) -> bytes:
    """The engine, serialised."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        problems = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise ValueError(f"TensorRT cannot read {path}: {problems}. check(path) may say what to mend.")
    config = builder.create_builder_config()
    if workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    profile = builder.create_optimization_profile()
    open_inputs = False
    for i in range(network.num_inputs):
        one = network.get_input(i)
        shape = tuple(one.shape)
        if any(size < 0 for size in shape[1:]):
            raise ValueError(f"Input {one.name} of {path} has open sizes {shape}: fix all but the batch.")
        if shape and shape[0] < 0:
            fixed = (batch, *shape[1:])
            profile.set_shape(one.name, fixed, fixed, fixed)
            open_inputs = True
        elif shape and shape[0] != batch:
            raise ValueError(f"{path} has a fixed batch of {shape[0]}, asked for {batch}: export with batch=None.")
    if open_inputs:
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ValueError(f"TensorRT cannot build {path}; its log above says why. check(path) may say what to mend.")
    return bytes(plan)


def _strongly_typed(trt: Any) -> int:
    """Flags of a network whose types are the file's; TensorRT 11 has no other kind, and may lack the flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _time(trt: Any, cuda: Cuda, plan: bytes, batch: int, warmup: int, runs: int) -> list[float]:
    """Milliseconds of each timed call."""
    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    with cuda.memory() as allocate, cuda.stream() as stream:
        for name in names:
            shape = tuple(engine.get_tensor_shape(name))
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT and shape and shape[0] < 0:
                context.set_input_shape(name, (batch, *shape[1:]))
        for name in names:
            values = trt.volume(context.get_tensor_shape(name))
            size = getattr(engine.get_tensor_dtype(name), "itemsize", 8)
            # A count known only after a run (suppression) is negative: TensorRT says how much it may need at most.
            context.set_tensor_address(name, allocate(max(values * size, 0) or context.get_max_output_size(name)))
        times = []
        for i in range(warmup + runs):
            started = time.perf_counter()
            context.execute_async_v3(stream)
            cuda.synchronize(stream)
            if i >= warmup:
                times.append(1e3 * (time.perf_counter() - started))
    return times
