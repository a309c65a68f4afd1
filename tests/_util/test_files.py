"""Files and folders written whole: what is there already, what was left behind, permissions, links, names."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from resnet_backbones._util import files
from resnet_backbones._util.files import beside, check_not_read, check_writable, folder_written_whole, written_whole

LONGEST = 255
NAMES = ["a", "A.NPZ", "model.tflite", ".hidden", "ä" * 127, "x" * 255, "." + "y" * 254, "a." + "z" * 253, "a b[1]*?"]


def write_file(path, content="new"):
    with written_whole(path) as temporary:
        temporary.write_text(content)


def write_folder(path, content="new"):
    with folder_written_whole(path) as temporary:
        (temporary / "saved_model.pb").write_text(content)


def mode(path):
    return path.stat().st_mode & 0o777


def tree(folder):
    """Everything below a folder, with contents."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@contextlib.contextmanager
def umask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("name", NAMES)
def test_any_name_the_file_system_takes_is_written_and_replaced(tmp_path, write, name):
    for content in ("first", "second"):
        write(tmp_path / name, content)
        assert os.listdir(tmp_path) == [name]
        written = tmp_path / name
        assert (written / "saved_model.pb" if written.is_dir() else written).read_text() == content


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_name_too_long_is_an_error_that_says_so(tmp_path, write):
    with pytest.raises(OSError, match="Cannot write .*too long"):
        write(tmp_path / ("x" * 256))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("length", [200, 242, 243, 255])
@pytest.mark.parametrize("letter", ["x", "ä"])
def test_a_name_beside_another_fits_the_file_system(tmp_path, length, letter):
    name = letter * (length // len(letter.encode()))
    found = beside(tmp_path / name, ".report.json")
    write_file(found)
    assert found.name.endswith(".report.json")
    assert found.name.startswith(name[:50])
    assert (found.name == f"{name}.report.json") == (len(name.encode()) + 12 <= LONGEST)
    assert beside(tmp_path / (name[:-1] + "y"), ".report.json") != found


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_new_files_and_folders_have_the_permissions_of_any_new_one(tmp_path, mask, monkeypatch):
    with umask(mask):
        monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask of the whole process was changed"))
        write_file(tmp_path / "file")
        write_folder(tmp_path / "folder")
        monkeypatch.undo()
    assert mode(tmp_path / "file") == 0o666 & ~mask
    assert mode(tmp_path / "folder") == 0o777 & ~mask


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o664, 0o755, 0o777])
@pytest.mark.parametrize("write", [write_file, write_folder])
def test_what_is_replaced_keeps_its_permissions(tmp_path, write, permissions):
    target = tmp_path / "target"
    write(target, "old")
    target.chmod(permissions | 0o700)
    write(target)
    assert mode(target) == permissions | 0o700


@pytest.mark.parametrize("write", [written_whole, folder_written_whole])
def test_while_it_is_written_nobody_else_can_read_it(tmp_path, write):
    (write_file if write is written_whole else write_folder)(tmp_path / "secret", "old")
    with umask(0), write(tmp_path / "secret") as temporary:
        assert mode(temporary.parent) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_what_root_replaces_stays_its_owners(tmp_path):
    for name, write in (("file", write_file), ("folder", write_folder)):
        write(tmp_path / name, "old")
        os.chown(tmp_path / name, 1234, 1235)
        write(tmp_path / name)
        about = (tmp_path / name).stat()
        assert (about.st_uid, about.st_gid) == (1234, 1235)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, write, exists, relative):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if exists:
        write(elsewhere / "target", "old")
    (tmp_path / "between").symlink_to("elsewhere/target" if relative else elsewhere / "target")
    (tmp_path / "link").symlink_to("between")
    write(tmp_path / "link")
    assert (tmp_path / "link").readlink() == Path("between")
    written = elsewhere / "target"
    assert not written.is_symlink()
    assert (written / "saved_model.pb" if written.is_dir() else written).read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["between", "elsewhere", "link"]
    assert os.listdir(elsewhere) == ["target"]


def things(folder):
    """What must not be replaced by a file: name -> words of the error."""
    (folder / "a folder").mkdir()
    (folder / "to a folder").symlink_to("a folder")
    os.mkfifo(folder / "a pipe")
    (folder / "to a pipe").symlink_to("a pipe")
    (folder / "to a device").symlink_to("/dev/null")
    (folder / "a circle").symlink_to("a circle")
    (folder / "to nowhere").symlink_to("no/such/folder/file")
    (folder / "a file").write_text("mine")
    return {
        "a folder": "is a folder",
        "to a folder": "is a folder",
        "a pipe": "device or a pipe",
        "to a pipe": "device or a pipe",
        "to a device": "device or a pipe",
        "a circle": "leads back to itself|symbolic links",
        "to nowhere": "there is no folder",
        "a file/inside": "there is no folder",
        "no/such/folder": "there is no folder",
    }


def test_a_file_replaces_nothing_but_files(tmp_path):
    for name, message in things(tmp_path).items():
        before = tree(tmp_path)
        for write in (write_file, check_writable):
            with pytest.raises(OSError, match=f"Cannot write .*({message}).*choose another path"):
                write(tmp_path / name)
            assert tree(tmp_path) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root may write to any file")
def test_a_write_protected_file_stays(tmp_path):
    write_file(tmp_path / "file", "old")
    (tmp_path / "file").chmod(0o444)
    with pytest.raises(OSError, match="write-protected"):
        write_file(tmp_path / "file")


SAVED = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001", "fingerprint.pb"]
OURS = [
    [],
    ["saved_model.pb"],
    SAVED,
    [*SAVED, "keras_metadata.pb", "assets/words.txt", "assets.extra/resnet_backbones.json"],
    ["saved_model.pbtxt", "variables/", "assets/"],
]
THEIRS = [
    ["notes.txt"],
    ["empty/"],
    [".git/config"],
    ["variables/variables.index"],
    ["assets/words.txt"],
    [*SAVED, "notes.txt"],
    [*SAVED, ".gitkeep"],
    [*SAVED, "variables/mine.npz"],
    [*SAVED, "assets.extra/tf_serving_warmup_requests"],
    [*SAVED, "another/saved_model.pb"],
    ["1/saved_model.pb"],  # what TensorFlow Serving watches: versions of a model
    ["saved_model.pb.old"],
]


def fill(folder, names):
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).write_text("mine")


@pytest.mark.parametrize("names", OURS, ids=str)
@pytest.mark.parametrize("link", [False, True])
def test_an_empty_folder_and_a_saved_model_are_replaced(tmp_path, names, link):
    fill(tmp_path / "results", names)
    if link:
        (tmp_path / "link").symlink_to("results")
    path = tmp_path / ("link" if link else "results")
    check_writable(path, folder=True)
    write_folder(path)
    assert tree(tmp_path / "results") == {"saved_model.pb": b"new"}
    assert len(os.listdir(tmp_path)) == 1 + link


@pytest.mark.parametrize("names", THEIRS, ids=str)
@pytest.mark.parametrize("link", [False, True])
def test_a_folder_with_anything_else_in_it_stays(tmp_path, names, link):
    fill(tmp_path / "results", names)
    if link:
        (tmp_path / "link").symlink_to("results")
    before = tree(tmp_path)
    path = tmp_path / ("link" if link else "results")
    for write in (write_folder, lambda path: check_writable(path, folder=True)):
        with pytest.raises(OSError, match="the folder holds .* no part of a SavedModel.*choose another path"):
            write(path)
        assert tree(tmp_path) == before


def test_what_is_put_into_the_folder_meanwhile_stays(tmp_path):
    def write_late():
        with folder_written_whole(tmp_path / "results") as temporary:
            (temporary / "saved_model.pb").write_text("new")
            (tmp_path / "results").mkdir(exist_ok=True)
            (tmp_path / "results" / "notes.txt").write_text("mine")

    with pytest.raises(OSError, match="the folder holds 'notes.txt'"):
        write_late()
    assert tree(tmp_path) == {"results": False, "results/notes.txt": b"mine"}


def test_a_folder_replaces_no_file_nor_the_folder_one_works_in(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "work" / "inner").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    before = tree(tmp_path / "work")
    with contextlib.chdir(tmp_path / "work" / "inner"):
        cases = {
            tmp_path / "file": "is a file",
            tmp_path / "pipe": "is a file",
            Path("."): "works in",
            "..": "works in",
        }
        for path, message in cases.items():
            with pytest.raises(OSError, match=message):
                write_folder(path)
    assert tree(tmp_path / "work") == before


def test_without_an_exchange_in_one_step_a_folder_is_replaced_too(tmp_path, monkeypatch):
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    for name in ("results", "old", "new"):
        write_folder(tmp_path / name, "first")
        write_folder(tmp_path / name, "second")
        assert tree(tmp_path / name) == {"saved_model.pb": b"second"}
    assert sorted(os.listdir(tmp_path)) == ["new", "old", "results"]


@pytest.mark.parametrize("write", [written_whole, folder_written_whole])
def test_an_error_leaves_everything_as_it_was(tmp_path, write):
    target = tmp_path / "target"
    (write_file if write is written_whole else write_folder)(target, "old")
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt), write(target):
        raise KeyboardInterrupt
    assert tree(tmp_path) == before


DIE = """
import os, sys
from resnet_backbones._util import files
write = getattr(files, sys.argv[1])
with write(sys.argv[2]) as temporary:
    place = temporary / "saved_model.pb" if temporary.is_dir() else temporary
    place.write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("write", ["written_whole", "folder_written_whole"])
@pytest.mark.parametrize("name", ["target", "x" * 255])
def test_the_next_write_removes_what_a_killed_one_left(tmp_path, write, name):
    (tmp_path / ".resnet_backbones-mine").mkdir()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", DIE, write, str(tmp_path / name)], check=False)
    subprocess.run([sys.executable, "-c", DIE, write, str(tmp_path / "other")], check=False)
    left = set(os.listdir(tmp_path)) - {".resnet_backbones-mine"}
    assert len(left) == 2, "each killed write removed the one before it to the same place"
    (write_file if write == "written_whole" else write_folder)(tmp_path / name)
    left = set(os.listdir(tmp_path)) - {".resnet_backbones-mine", name}
    assert len(left) == 1, "that of another place stays"


@pytest.mark.parametrize("lockable", [True, False])
def test_writers_of_one_place_leave_each_other_alone(tmp_path, lockable, monkeypatch):
    if not lockable:
        monkeypatch.setattr(files, "fcntl", None)
    target, errors = tmp_path / "target", []

    def work(number):
        try:
            for index in range(20):
                write_file(target, f"{number} {index} " * 500)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    words = target.read_text().split()
    assert words == words[:2] * 500
    assert os.listdir(tmp_path) == ["target"]


def test_where_folders_cannot_be_locked_only_old_leftovers_go(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    left = {age: tmp_path / f".resnet_backbones-{files._digest('target')}-{age}" for age in ("young", "old")}
    for folder in left.values():
        folder.mkdir()
    os.utime(left["old"], (0, 0))
    write_file(tmp_path / "target")
    assert left["young"].exists()
    assert not left["old"].exists()


def test_a_file_that_is_read_is_not_written(tmp_path):
    write_file(tmp_path / "in")
    (tmp_path / "link").symlink_to("in")
    os.link(tmp_path / "in", tmp_path / "hard")
    for name in ("in", "link", "hard"):
        with pytest.raises(ValueError, match="would be read and replaced: choose another path"):
            check_not_read(tmp_path / name, None, tmp_path / "nothing", tmp_path / "in")
    check_not_read(tmp_path / "out", tmp_path / "in", "https://example.com/in")
