"""Files that lead out of themselves, claim more than they hold, hang whoever opens them, or are damaged."""

import io
import os
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import resnet_backbones as rb
from resnet_backbones.cli import app as cli
from resnet_backbones.weights import WeightsMismatchError
from resnet_backbones.weights.keras_files import load_weights_file
from resnet_backbones.weights.targets import find_target
from tests.support.nets import assert_same, values
from tests.weights.models import classifier, randomise_all_but_kernels, timm_state, tiny

SECRET = "secret.bin"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Good files of one tiny classifier, by ending."""
    folder = tmp_path_factory.mktemp("written")
    model = randomise_all_but_kernels(classifier())
    model.save(folder / "model.keras")
    rb.weights.save(model, folder / "model.weights.h5")
    rb.weights.save(model, folder / "model.safetensors")
    rb.weights.save(model, folder / "model.npz")
    with h5py.File(folder / "model.h5", "w") as file:  # as Keras 2 wrote it
        for slot in find_target(model).slots():
            file[f"{slot.layer}/{slot.layer}/{slot.weight}:0"] = slot.value
    return folder


@pytest.fixture(scope="module")
def target():
    return classifier()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Holds a file of floats and a pipe that HDF5 would find by a relative name, too."""
    np.ones(100_000, "float32").tofile(tmp_path / SECRET)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.ones(100_000, "float32")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def attacked(source, ending, out, attack):
    """A copy of a good file in whose HDF5 part ``attack(file, name of the first array)`` was done."""
    path = out / f"attacked.{ending}"
    if ending == "keras":
        with zipfile.ZipFile(source / "model.keras") as old:
            members = {member: old.read(member) for member in old.namelist()}
        content = io.BytesIO(members["model.weights.h5"])
    else:
        content = io.BytesIO((source / f"model.{ending}").read_bytes())
    names = []
    with h5py.File(content, "r+") as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        attack(file, next(name for name in names if len(file[name].shape) == 4))
    if ending == "keras":
        members["model.weights.h5"] = content.getvalue()
        with zipfile.ZipFile(path, "w") as new:
            for member, data in members.items():
                new.writestr(member, data)
    else:
        path.write_bytes(content.getvalue())
    return path


def replace(file, name, make):
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    make(shape, dtype)


def external(where):
    return lambda file, name: replace(
        file,
        name,
        lambda shape, dtype: file.create_dataset(name, shape, dtype, external=[(where, 0, h5py.h5f.UNLIMITED)]),
    )


def virtual(where):
    def make(file, name, shape, dtype):
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(where, "x", shape)
        file.create_virtual_dataset(name, layout)

    return lambda file, name: replace(file, name, lambda shape, dtype: make(file, name, shape, dtype))


def virtual_of_any_length(where):
    def make(file, name):
        layout = h5py.VirtualLayout((4,), "float32", maxshape=(None,))
        layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(where, "x", (4,), maxshape=(None,))[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset(name, layout)

    return lambda file, name: replace(file, name, lambda *_: make(file, name))


def link(to, *, group=False):
    def attack(file, name):
        place = name.rpartition("/")[0] if group else name
        del file[place]
        file[place] = to

    return attack


def link_within(file, name):
    file["elsewhere"] = file[name]
    del file[name]
    file[name] = h5py.SoftLink("/elsewhere")


LEADING_OUT = {
    "external storage": external(SECRET),
    "external storage, absolute": external("/etc/hostname"),
    "external storage, pipe": external("pipe"),
    "virtual": virtual("secret.h5"),
    "virtual, pipe": virtual("pipe"),
    "virtual, any length": virtual_of_any_length("secret.h5"),
    "virtual, any length, pipe": virtual_of_any_length("pipe"),
    "external link": link(h5py.ExternalLink("secret.h5", "/x")),
    "external link, pipe": link(h5py.ExternalLink("pipe", "/x")),
    "external link to a group": link(h5py.ExternalLink("secret.h5", "/"), group=True),
    "soft link": link_within,
    "soft link to nothing": link(h5py.SoftLink("/nowhere")),
    "soft link to itself": lambda file, name: link(h5py.SoftLink(f"/{name}"))(file, name),
}
READERS = {
    "weights.h5": rb.weights.load,
    "h5": rb.weights.load,
    "keras": rb.weights.load,
    "keras, load_model": lambda target, path: rb.load_model(path),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("attack", LEADING_OUT)
def test_no_path_inside_a_file_is_followed(written, target, folder, reader, attack):
    path = attacked(written, reader.partition(",")[0], folder, LEADING_OUT[attack])
    before = values(target)
    with pytest.raises(ValueError, match="no path inside a file is followed"):
        READERS[reader](target, path)
    assert_same(before, values(target))


@pytest.mark.parametrize("reader", READERS)
def test_a_group_within_itself_is_visited_once(written, target, folder, reader):
    def cycle(file, name):
        file["again"] = file["/"]

    READERS[reader](target, attacked(written, reader.partition(",")[0], folder, cycle))


@pytest.mark.parametrize("ending", ["weights.h5", "keras", "h5", "npz", "safetensors", "pt"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_ordinary_file_is_not_opened(target, tmp_path, ending, kind):
    path = tmp_path / f"x.{ending}"
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(ValueError, match=f"is a {kind}, and weights are read from ordinary files"):
        rb.weights.load(target, path)
    if ending == "keras":
        with pytest.raises(ValueError, match=f"is a {kind}"):
            rb.load_model(path)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json", "model.weights.json"])
def test_an_index_of_other_files_is_no_weights_file(target, tmp_path, name):
    (tmp_path / name).write_text('{"weight_map": {"stem_conv1.kernel": "../../etc/passwd"}}')
    with pytest.raises(ValueError, match="weights come from a file ending in"):
        rb.weights.load(target, tmp_path / name)


@pytest.mark.parametrize("member", ["../outside.npy", "/outside.npy", "a/../../outside.npy"])
def test_members_of_archives_have_names_within_them(written, target, tmp_path, member):
    for ending in ("npz", "keras"):
        path = tmp_path / f"x.{ending}"
        path.write_bytes((written / f"model.{ending}").read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(member, b"")
        with pytest.raises(ValueError, match="names a place outside it"):
            rb.weights.load(target, path)


@pytest.mark.parametrize(("key", "value"), [("filepath", "/etc"), ("vocabulary", "/etc/passwd")])
def test_no_file_that_a_configuration_names_is_read(written, target, tmp_path, key, value):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(written / "model.keras") as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            if member == "config.json":
                data = data.replace(b'"trainable": true', f'"trainable": true, "{key}": "{value}"'.encode(), 1)
            new.writestr(member, data)
    with pytest.raises(ValueError, match=f"would read the file '{value}'"):
        rb.load_model(path)


# --- claims ----------------------------------------------------------------------------------------------------------


def header_only_npy(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def huge_npz(path, shape, zeros):
    """An archive of one array of a shape, of which so many bytes follow."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("stem_conv1.kernel.npy", header_only_npy(shape) + b"\0" * zeros)


def huge_h5(name):
    def write(path, shape, zeros):
        with h5py.File(path, "w") as file:
            file.create_dataset(name, shape, "float32", chunks=(1, *shape[1:-1], min(shape[-1], 1 << 20)))

    return write


def huge_keras(written):
    def write(path, shape, zeros):
        def attack(file, name):
            del file[name]
            file.create_dataset(name, shape, "float32", chunks=(1, *shape[1:-1], min(shape[-1], 1 << 20)))

        attacked(written, "keras", path.parent, attack).rename(path)

    return write


def huge_safetensors(path, shape, zeros):
    size = 4 * int(np.prod(shape, dtype=object))
    header = f'{{"stem_conv1.kernel": {{"dtype": "F32", "shape": {list(shape)}, "data_offsets": [0, {size}]}}}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\0" * min(zeros, 1000))


CLAIMS = {"100 MB": (7, 7, 3, 170_000), "36 TiB": (7, 7, 3, 1 << 36), "2**70": (1 << 20, 1 << 20, 1 << 20, 1024)}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("ending", ["npz", "h5", "weights.h5", "keras", "safetensors"])
def test_what_a_file_claims_to_hold_is_not_made_room_for(written, target, tmp_path, ending, claim):
    write = {
        "npz": huge_npz,
        "h5": huge_h5("stem_conv1/stem_conv1/kernel:0"),
        "weights.h5": huge_h5("layers/conv2d/vars/0"),
        "keras": huge_keras(written),
        "safetensors": huge_safetensors,
    }[ending]
    path = tmp_path / f"x.{ending}"
    try:
        write(path, CLAIMS[claim], 100_000_000 if claim == "100 MB" else 0)
    except ValueError:
        assert claim == "2**70"  # HDF5 itself writes no such array
        assert "h5" in ending or ending == "keras"
        return
    before = values(target)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"of another shape|cannot be read as a"):
            rb.weights.load(target, path)
        if ending == "keras":
            with pytest.raises(ValueError, match="cannot be read as a"):
                rb.load_model(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6, peak
    assert_same(before, values(target))


def test_many_arrays_that_nobody_asked_for_are_not_read(target, tmp_path):
    """0.2 MB that unfold to 200 MB, in arrays by every library's names."""
    zeros = header_only_npy((3, 3, 1, 100_000)) + b"\0" * 3_600_000
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(28):
            archive.writestr(f"block_{number}_conv.kernel.npy", zeros)
            archive.writestr(f"a{number}_conv.bias.npy", zeros)
            archive.writestr(f"a{number}_bn.moving_mean.npy", zeros)
    tracemalloc.start()
    with pytest.raises(WeightsMismatchError, match="missing"):
        rb.weights.load(target, tmp_path / "x.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6, peak


# --- values ----------------------------------------------------------------------------------------------------------

BAD = {
    "NaN": (lambda value: np.where(np.arange(value.size).reshape(value.shape) == 3, np.nan, value), "with NaN or inf"),
    "infinity": (lambda value: np.full_like(value, -np.inf), "with NaN or infinity"),
    "more than float32": (lambda value: np.full(value.shape, 1e300), "with NaN or infinity"),
    "bool": (lambda value: value > 0, "of another type:.*bool, not floats"),
    "int8": (lambda value: (100 * value).astype("int8"), "of another type:.*int8, not floats"),
    "int64": (lambda value: value.astype("int64"), "of another type:.*int64, not floats"),
    "complex": (lambda value: value + 1j, "of another type:.*complex64, not floats"),
}


def with_bad_kernel(source, ending, path, damage):
    """A copy of a good file with one kernel damaged."""
    import safetensors.numpy

    if ending in ("npz", "safetensors"):
        load = safetensors.numpy.load_file if ending == "safetensors" else lambda path: dict(np.load(path))
        arrays = load(source / f"model.{ending}")
        arrays["stage1_block1_conv1.kernel"] = damage(arrays["stage1_block1_conv1.kernel"])
        np.savez(path, **arrays) if ending == "npz" else safetensors.numpy.save_file(arrays, path)
        return

    def attack(file, name):
        value = damage(file[name][()])
        del file[name]
        file[name] = value

    attacked(source, ending, path.parent, attack).rename(path)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("ending", ["npz", "safetensors", "h5", "weights.h5"])
def test_values_that_are_no_weights_are_refused_or_left_out(written, target, tmp_path, ending, kind):
    damage, message = BAD[kind]
    if (ending, kind) == ("safetensors", "complex"):
        message = "of another type:.*c64, not floats"
    path = tmp_path / f"x.{ending}"
    with_bad_kernel(written, ending, path, damage)
    before = values(target)
    with pytest.raises(WeightsMismatchError, match=rf"(?s)1 {message}"):
        rb.weights.load(target, path)
    assert_same(before, values(target))
    other = classifier()
    before = values(other)
    with pytest.warns(UserWarning, match=rf"(?s)Skipped.*1 {message}"):
        rb.weights.load(other, path, skip_mismatch=True)
    assert all(np.isfinite(value).all() for value in values(other))
    assert sum(np.any(one != two) for one, two in zip(before, values(other), strict=True)) > 20


def test_a_state_dict_in_memory_is_checked_too():
    for kind in ("NaN", "int8"):
        damage, message = BAD[kind]
        state = timm_state()
        state["layer1.0.conv1.weight"] = damage(state["layer1.0.conv1.weight"])
        with pytest.raises(WeightsMismatchError, match=rf"(?s)1 {message}"):
            rb.weights.from_timm(tiny(), state)


# --- damage ----------------------------------------------------------------------------------------------------------


def damaged(content, seed):
    """Every second time one bit flipped, else cut short or a piece overwritten."""
    random = np.random.default_rng(seed)
    data = bytearray(content)
    at = int(random.integers(len(data)))
    if seed % 2 == 0:
        data[at] ^= 1 << int(random.integers(8))
    elif seed % 4 == 1:
        del data[at:]
    else:
        data[at : at + 16] = random.bytes(16)
    return bytes(data)


@pytest.fixture(scope="module")
def small_head():
    """A file of Keras' own in which half the bytes are HDF5's structure, and what it restores."""
    return randomise_all_but_kernels(tiny(rb.ResNetSpec(block="basic", depths=(1,), widths=(2,), stem_width=2)))


@pytest.mark.parametrize("ending", ["weights.h5", "npz", "safetensors", "keras"])
def test_a_damaged_file_is_a_value_error_or_gives_what_was_written(small_head, tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    small_head.save(path) if ending == "keras" else rb.weights.save(small_head, path)
    content = path.read_bytes()
    target = find_target(tiny(small_head.spec))
    before, good = values(target.model), values(small_head)
    outcomes = {"error": 0, "equal": 0, "other": 0}
    for seed in range({"keras": 16, "weights.h5": 40}.get(ending, 120)):
        path.write_bytes(damaged(content, seed))
        target.model.set_weights(before)
        try:
            if ending == "weights.h5":
                load_weights_file(target, path, where="x")
            else:
                rb.weights.load(target.model, path)
        except ValueError:
            outcomes["error"] += 1
            assert_same(before, values(target.model))
        else:
            same = all(np.array_equal(one, two) for one, two in zip(good, values(target.model), strict=True))
            outcomes["equal" if same else "other"] += 1
    print(ending, outcomes)
    assert outcomes["error"] > 8
    assert outcomes["other"] == 0


@pytest.mark.parametrize("ending", ["h5", "keras", "npz", "safetensors", "weights.h5", "pt"])
def test_convert_never_ends_in_a_traceback(written, tmp_path, ending):
    source = written / f"model.{ending}"
    content = source.read_bytes() if source.exists() else os.urandom(5000)
    for seed in range(4):
        path = tmp_path / f"x.{ending}"
        path.write_bytes(damaged(content, seed))
        result = CliRunner().invoke(cli.app, ["convert", "--name", "resnet10t", str(path), str(tmp_path / "out.npz")])
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.stderr.startswith("Error:")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("ending", ["npz", "safetensors", "weights.h5"])
def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path, ending):
    import resource
    import signal

    model = tiny()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        with pytest.raises(OSError, match=r"[Cc]annot write|File too large"):
            rb.weights.save(model, tmp_path / f"x.{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
