"""Building an engine: what is said where it cannot be done, and what is asked of TensorRT where it can."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import onnx
import pytest

import resnet_backbones as rb
from resnet_backbones.export.tensorrt import TensorRTMissingError

from .good_graph import good_model

try:
    import tensorrt
except ImportError:
    tensorrt = None


@pytest.fixture
def path(tmp_path):
    onnx.save(good_model(), str(tmp_path / "good.onnx"))
    return tmp_path / "good.onnx"


@pytest.mark.skipif(tensorrt is not None, reason="TensorRT is installed")
def test_without_tensorrt_the_error_says_what_to_install(path):
    with pytest.raises(TensorRTMissingError, match="pip install tensorrt cuda-python") as caught:
        rb.export.tensorrt.build(path)
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, RuntimeError)


def test_a_missing_file_is_said_before_anything_is_imported(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        rb.export.tensorrt.build(tmp_path / "none.onnx")


def test_senseless_numbers_are_refused(path):
    with pytest.raises(ValueError, match="at least 1"):
        rb.export.tensorrt.build(path, runs=0)


# --- a stand-in for TensorRT and CUDA that keeps TensorRT's rules on shapes and order ----------------------------


class Recorder(SimpleNamespace):
    """What was asked."""


def fake_tensorrt(asked, shape=(-1, 3, 16, 16), version="10.9.0", parses=True, builds=True, strong=True):
    module = ModuleType("tensorrt")
    module.__version__ = version

    class Logger:
        WARNING = 1

        def __init__(self, level):
            pass

    class Network:
        num_inputs = 1

        def get_input(self, i):
            return SimpleNamespace(name="image", shape=shape)

    class Profile:
        def set_shape(self, name, *shapes):
            asked.profile = (name, shapes)

    class Config:
        def set_memory_pool_limit(self, pool, size):
            asked.workspace = size

        def add_optimization_profile(self, profile):
            assert asked.profile, "a profile without shapes"

    class BuilderOfEngines:
        def __init__(self, logger):
            pass

        def create_network(self, flags=0):
            asked.flags = flags
            return Network()

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            return b"plan" if builds else None

    class Parser:
        num_errors = 1

        def __init__(self, network, logger):
            pass

        def parse_from_file(self, name):
            asked.parsed = name
            return parses

        def get_error(self, i):
            return SimpleNamespace(desc=lambda: "zero point must be 0")

    class Context:
        def __init__(self):
            self.shapes, self.addresses = {"image": shape, "head": (shape[0], 5)}, {}

        def set_input_shape(self, name, fixed):
            self.shapes = {"image": fixed, "head": (fixed[0], 5)}

        def get_tensor_shape(self, name):
            return self.shapes[name]

        def set_tensor_address(self, name, address):
            self.addresses[name] = address

        def execute_async_v3(self, stream):
            assert set(self.addresses) == {"image", "head"}
            assert all(size > 0 for one in self.shapes.values() for size in one), "shapes were not set"
            asked.runs += 1

    class Engine:
        num_io_tensors = 2

        def create_execution_context(self):
            return Context()

        def get_tensor_name(self, i):
            return ("image", "head")[i]

        def get_tensor_shape(self, name):
            return {"image": shape, "head": (shape[0], 5)}[name]

        def get_tensor_mode(self, name):
            return "input" if name == "image" else "output"

        def get_tensor_dtype(self, name):
            return SimpleNamespace(itemsize=4)

    def volume(sizes):
        total = 1
        for size in sizes:
            total *= size
        return total

    module.Logger, module.Builder, module.OnnxParser, module.volume = Logger, BuilderOfEngines, Parser, volume
    module.NetworkDefinitionCreationFlag = SimpleNamespace(**({"STRONGLY_TYPED": 1} if strong else {}))
    module.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    module.TensorIOMode = SimpleNamespace(INPUT="input")
    module.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine())
    return module


def fake_cuda(asked, gpus=1):
    runtime = ModuleType("cuda.bindings.runtime")

    def malloc(size):
        asked.held[1000 + len(asked.allocated)] = size
        asked.allocated.append(size)
        return 0, 999 + len(asked.allocated)

    def free(address):
        del asked.held[address]
        return (0,)

    runtime.cudaGetDeviceCount = lambda: (0, gpus) if gpus else (100, 0)
    runtime.cudaGetDeviceProperties = lambda device: (0, SimpleNamespace(name=b"A GPU"))
    runtime.cudaMalloc, runtime.cudaFree = malloc, free
    runtime.cudaMemset = lambda address, value, size: (0,)
    runtime.cudaStreamCreate = lambda: (0, 7)
    runtime.cudaStreamDestroy = runtime.cudaStreamSynchronize = lambda stream: (0,)
    return runtime


@pytest.fixture
def machine(monkeypatch):
    """Puts the stand-ins where imports find them; returns what was asked of them."""

    def install(gpus=1, **of_tensorrt):
        asked = Recorder(runs=0, allocated=[], held={}, profile=None, workspace=None)
        runtime = fake_cuda(asked, gpus)
        bindings = ModuleType("cuda.bindings")
        bindings.runtime = runtime
        cuda = ModuleType("cuda")
        cuda.bindings = bindings
        modules = {"cuda": cuda, "cuda.bindings": bindings, "cuda.bindings.runtime": runtime}
        for name, module in {**modules, "tensorrt": fake_tensorrt(asked, **of_tensorrt)}.items():
            monkeypatch.setitem(sys.modules, name, module)
        return asked

    return install


def test_an_open_batch_gets_a_profile_and_buffers_of_its_size(path, machine, tmp_path):
    asked = machine()
    engine = tmp_path / "good.engine"
    report = rb.export.tensorrt.build(path, engine=engine, batch=4, workspace_bytes=1 << 20, runs=5, warmup=2)
    assert asked.flags == 1 << 1
    assert asked.profile == ("image", ((4, 3, 16, 16),) * 3)
    assert asked.workspace == 1 << 20
    assert asked.allocated == [4 * 3 * 16 * 16 * 4, 4 * 5 * 4]
    assert not asked.held  # all freed
    assert asked.runs == 7
    assert engine.read_bytes() == b"plan"
    assert (report.batch, report.runs, report.gpu, report.size_bytes) == (4, 5, "A GPU", 4)
    assert 0 <= report.minimum_ms <= report.median_ms
    assert "10.9.0" in str(report)


def test_tensorrt_11_needs_no_flag_and_a_fixed_batch_no_profile(path, machine):
    asked = machine(version="11.0.0", strong=False, shape=(1, 3, 16, 16))
    rb.export.tensorrt.build(path, runs=1)
    assert asked.flags == 0
    assert asked.profile is None


def test_no_gpu_and_old_versions_are_said(path, machine):
    machine(gpus=0)
    with pytest.raises(TensorRTMissingError, match="No GPU can be used"):
        rb.export.tensorrt.build(path)
    machine(version="8.6.1")
    with pytest.raises(TensorRTMissingError, match="8.6.1 is too old"):
        rb.export.tensorrt.build(path)


def test_what_tensorrt_says_of_a_file_is_passed_on(path, machine, tmp_path):
    engine = tmp_path / "old.engine"
    engine.write_bytes(b"old")
    machine(parses=False)
    with pytest.raises(ValueError, match="zero point must be 0"):
        rb.export.tensorrt.build(path, engine=engine)
    machine(builds=False)
    with pytest.raises(ValueError, match="cannot build"):
        rb.export.tensorrt.build(path, engine=engine)
    machine(shape=(-1, 3, -1, -1))
    with pytest.raises(ValueError, match="fix all but the batch"):
        rb.export.tensorrt.build(path, engine=engine)
    machine(shape=(2, 3, 16, 16))
    with pytest.raises(ValueError, match="fixed batch of 2"):
        rb.export.tensorrt.build(path, engine=engine)
    assert engine.read_bytes() == b"old"
