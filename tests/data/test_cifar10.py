"""CIFAR-10's two layouts, beside torchvision's reader, and what must be refused."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from minigrad.data import load_cifar10
from minigrad.errors import DataError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NAMES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def batch(number: int, count: int = 6) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, 10, count).tolist()


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and NumPy 1 wrote: str as bytes, numpy.core, no _codecs."""

    dispatch: ClassVar[Any] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: Any) -> None:
        raw = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch[type(pickle.dumps)] = dispatch[type] = save_global


def python2(value: Any) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump(value)
    return stream.getvalue()


def python3(value: Any) -> bytes:
    """Protocol 2 with bytes for keys."""
    return pickle.dumps({key.encode(): each for key, each in value.items()}, 2)


def protocol4(value: Any) -> bytes:
    return pickle.dumps(value, 4)


def protocol5(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def content(number: int) -> dict[str, Any]:
    data, labels = batch(number)
    return {
        "batch_label": f"batch {number}",
        "labels": labels,
        "data": data,
        "filenames": [f"{i}.png" for i in range(len(data))],
    }


def write_pickles(folder: Path, dumps: Any = python2) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(dumps(content(number)))
    meta = {"num_cases_per_batch": 6, "label_names": CLASSES, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(dumps(meta))


def write_binaries(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        data, labels = batch(number)
        records = np.column_stack([np.array(labels, np.uint8), data])
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join([*CLASSES, ""]))


def expected(train: bool) -> tuple[np.ndarray, list[int]]:
    """The pixels by the definition: image i, channel c, row h, column w is at 1024 c + 32 h + w."""
    batches = [batch(number) for number in (range(5) if train else [5])]
    rows = np.concatenate([data for data, _ in batches])
    h, w, c = np.indices((32, 32, 3))
    return rows[:, 1024 * c + 32 * h + w], [label for _, labels in batches for label in labels]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("form", [python2, python3, protocol4, protocol5, None])
def test_both_layouts_give_the_images_labels_and_classes(
    tmp_path: Path, form: Any, inside: bool, train: bool
) -> None:
    folder = tmp_path / ("cifar-10-batches-py" if form else "cifar-10-batches-bin")
    if form:
        write_pickles(folder, form)
    else:
        write_binaries(folder)
    dataset = load_cifar10(folder if inside else tmp_path, train)
    images, labels = expected(train)
    assert dataset.images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.labels.tolist() == labels
    assert dataset.classes == tuple(CLASSES)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("form", [python2, protocol5])  # it finds str keys only
def test_torchvision_reads_the_same_from_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any, train: bool
) -> None:
    from torchvision.datasets import CIFAR10, cifar

    write_pickles(tmp_path / CIFAR10.base_folder, form)
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    theirs, mine = CIFAR10(str(tmp_path), train=train), load_cifar10(tmp_path, train)
    np.testing.assert_array_equal(mine.images, theirs.data)
    assert mine.labels.tolist() == theirs.targets
    assert mine.classes == tuple(theirs.classes)


def test_the_originals_form_names_the_old_module_and_holds_no_codec() -> None:
    """What the tests above write is what they say: the form of Python 2 and of Python 3."""
    assert b"cnumpy.core.multiarray\n_reconstruct" in python2(content(0))
    assert b"_codecs" not in python2(content(0))
    assert b"cnumpy._core.multiarray\n_reconstruct" in python3(content(0))
    assert b"c_codecs\nencode" in python3(content(0))


def test_arrays_stored_by_columns_are_read_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_pickles(folder)
    changed = {**content(5), "data": np.asfortranarray(content(5)["data"])}
    for form in (python3, protocol5):
        (folder / "test_batch").write_bytes(form(changed))
        np.testing.assert_array_equal(load_cifar10(tmp_path, False).images, expected(False)[0])


@pytest.mark.parametrize("form", [python2, None])
def test_without_the_file_of_names_the_classes_are_the_standard_ones(
    tmp_path: Path, form: Any
) -> None:
    folder = tmp_path / "data"
    if form:
        write_pickles(folder)
    else:
        write_binaries(folder)
    for file in folder.glob("batches.meta*"):
        file.unlink()
    assert load_cifar10(folder).classes == tuple(CLASSES)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no CIFAR-10 in") as caught:
        load_cifar10(tmp_path / "nowhere")
    for place in ("cifar-10-batches-py/data_batch_1", "cifar-10-batches-bin/data_batch_1.bin",
                  "data_batch_1", "data_batch_1.bin"):  # fmt: skip
        assert f"{tmp_path / 'nowhere' / place}," in f"{caught.value},".replace(";", ",")
    write_pickles(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_4 is missing"):
        load_cifar10(tmp_path)
    assert len(load_cifar10(tmp_path, train=False)) == 6


# Files that must be refused -----------------------------------------------------------------


class Attack:
    """A pickle of it calls `function(*arguments)` when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def refused(folder: Path, raw: bytes, match: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "test_batch").write_bytes(raw)
    with pytest.raises(DataError, match=match):
        load_cifar10(folder, train=False)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, r"(posix|nt)\.mkdir"), (exec, r"(builtins|__builtin__)\.exec")],
)
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    tmp_path: Path, function: Any, name: str, protocol: int
) -> None:
    trace = tmp_path / "trace"
    argument = str(trace) if function is os.mkdir else f"import os; os.mkdir({str(trace)!r})"
    raw = pickle.dumps({**content(5), "extra": Attack(function, argument)}, protocol)
    refused(tmp_path / "bad", raw, f"test_batch asks for {name}, which no CIFAR-10 file needs")
    assert not trace.exists()
    pickle.loads(raw)
    assert trace.exists(), "the pickle of this test does nothing"


@pytest.mark.parametrize(
    "name",
    ["numpy.core.multiarray\nscalar", "numpy\nload", "numpy.core\nmultiarray._reconstruct",
     "_codecs\ndecode", "_codecs\nencode.__self__", "builtins\ngetattr"],
)  # fmt: skip
def test_globals_near_the_allowed_ones_are_refused(tmp_path: Path, name: str) -> None:
    refused(
        tmp_path, f"\x80\x02c{name}\n.".encode("latin1"), f"asks for {name.replace(chr(10), '.')}"
    )


def test_reading_leaves_nothing_of_the_file_behind(tmp_path: Path) -> None:
    # BUILD with a pair of dicts sets attributes on what a global gave.
    setting = b"}X\x04\x00\x00\x00trapX\x01\x00\x00\x00xs"
    for name in (b"numpy\ndtype", b"_codecs\nencode", b"numpy.core.multiarray\n_reconstruct"):
        refused(tmp_path, b"\x80\x02c" + name + b"\n" + setting + setting + b"\x86b.", "damaged")
    import _codecs

    for each in (np.dtype, np.ndarray, np._core.multiarray._reconstruct, _codecs.encode):
        assert not hasattr(each, "trap")


def test_bytes_are_never_taken_for_pointers(tmp_path: Path) -> None:
    """NumPy's own reconstruction would make an array of objects from a state like this one."""
    raw = python3({**content(5), "data": np.array([[object] * 3072], object)})
    refused(tmp_path, raw, r"asks for (__builtin__|builtins)\.object")
    raw = python3({**content(5), "data": np.array([[None] * 3072], object)})
    refused(tmp_path, raw, "expected an array of uint8, got one of O8")


DATA, LABELS = batch(5)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"data": DATA[:, :-1]}, r"must be \(n, 3072\) uint8, got shape \(6, 3071\)"),
        ({"data": DATA[0]}, r"must be \(n, 3072\) uint8, got shape \(3072,\)"),
        ({"data": DATA.astype(np.float32)}, "expected an array of uint8, got one of f4"),
        ({"data": "pixels"}, "uint8, got (str|bytes)"),
        ({"labels": LABELS[:-1]}, "has 6 images and 5 labels"),
        ({"labels": [*LABELS[:-1], 10]}, r"must be in \[0, 10\), got 10"),
        ({"labels": [*LABELS[:-1], -1]}, r"must be in \[0, 10\), got -1"),
        ({"labels": [*LABELS[:-1], 2**80]}, r"must be in \[0, 10\), got 1208925819614629174706176"),
        ({"labels": [*LABELS[:-1], 1.0]}, "must be a list of ints"),
        ({"labels": None}, "must be a list of ints"),
    ],
)
def test_wrong_pickles_are_refused(tmp_path: Path, changed: dict[str, Any], match: str) -> None:
    refused(tmp_path, python3({**content(5), **changed}), f"test_batch.*{match}")


def test_what_is_no_batch_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, b"", "damaged")
    refused(tmp_path, b"\x89PNG\r\n", "damaged")
    refused(tmp_path, pickle.dumps([1, 2]), "damaged")
    refused(tmp_path, pickle.dumps({"labels": []}), "damaged.*data")


def test_truncated_pickles_are_refused_wherever_they_end(tmp_path: Path) -> None:
    for form in (python2, protocol5):
        whole = form(content(5))
        for length in [*range(0, len(whole) - 1, 331), len(whole) - 1]:
            refused(tmp_path, whole[:length], "damaged|must|images")


def test_flipped_bytes_are_an_error_or_only_other_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small = {**content(5), "data": content(5)["data"][:0], "labels": []}
    for form in (python2, python3, protocol5):
        whole = form(small)
        for _ in range(200):
            raw = bytearray(whole)
            for at in rng.integers(0, len(raw), 2):
                raw[at] = rng.integers(256)
            (tmp_path / "test_batch").write_bytes(raw)
            with contextlib.suppress(DataError):
                load_cifar10(tmp_path, train=False)


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 6 * 3073 - 1])
def test_binary_files_of_a_wrong_size_are_refused(tmp_path: Path, size: int) -> None:
    write_binaries(tmp_path / "cifar-10-batches-bin")
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    file.write_bytes((file.read_bytes() * 2)[:size])
    with pytest.raises(DataError, match=rf"data_batch_3\.bin has {size} bytes.*multiple of 3073"):
        load_cifar10(tmp_path)


def test_a_binary_label_out_of_range_is_refused(tmp_path: Path) -> None:
    write_binaries(tmp_path / "cifar-10-batches-bin")
    file = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    file.write_bytes(b"\x0a" + file.read_bytes()[1:])
    with pytest.raises(DataError, match=r"test_batch\.bin must be in \[0, 10\), got 10"):
        load_cifar10(tmp_path, train=False)


@pytest.mark.parametrize(
    ("names", "match"),
    [(CLASSES[:9], "10 classes, got 9"), ("cat", "list of class names"), ([1] * 10, "list of cl")],
)
def test_wrong_class_names_are_refused(tmp_path: Path, names: Any, match: str) -> None:
    write_pickles(tmp_path / "cifar-10-batches-py")
    meta = tmp_path / "cifar-10-batches-py" / "batches.meta"
    meta.write_bytes(python2({"label_names": names}))
    with pytest.raises(DataError, match=rf"batches\.meta must .*{match}"):
        load_cifar10(tmp_path)
    meta.write_bytes(pickle.dumps({"label_names": Attack(exec, "1 / 0")}))
    with pytest.raises(DataError, match=r"batches\.meta asks for builtins\.exec"):
        load_cifar10(tmp_path)
