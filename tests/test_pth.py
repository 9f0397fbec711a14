"""PyTorch's files: torch reads what minigrad writes and the other way round; nothing is run."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import random
import tracemalloc
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad import nn

VALUES = {
    "epoch": 3, "loss": 0.25, "name": "é", "sizes": (1, (2, 3)), "list": [1, [2, None]],
    "raw": b"\0\xff",
    "large": 2**70, "negative": -(2**31) - 5, "set": {1, 2}, "flags": [True, False],
    4: "a number as key", "deep": {"a": {"b": []}}, "long": "x" * 3000,
}  # fmt: skip


def torch_tensors() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, generator=generator)
    integers = {
        str(dtype)[6:]: torch.arange(-3, 4).abs().to(dtype)
        for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    }
    return OrderedDict(
        x=x, double=x.double(), half=x.half(), bfloat16=x.bfloat16(), view=x[1, 1:],
        transposed=x.transpose(0, 3), channels_last=x.to(memory_format=torch.channels_last),
        scalar=torch.tensor(3), expanded=torch.zeros(1).expand(5), empty=torch.empty(0, 3),
        parameter=torch.nn.Parameter(x[0]), **integers,
    )  # fmt: skip


def saved_by_torch(value, **options) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_load_reads_what_torch_wrote(zipped):
    tensors = torch_tensors()
    file = saved_by_torch(
        {"tensors": tensors, "size": tensors["x"].shape, "dtype": torch.float32, **VALUES,
         "device": torch.device("cpu"), "numpy": np.float64(2.5)},
        _use_new_zipfile_serialization=zipped,
    )  # fmt: skip
    loaded = mg.load(file)
    assert {key: loaded[key] for key in VALUES} == VALUES
    assert loaded["size"] == (2, 3, 4, 5)
    assert loaded["dtype"] == mg.float32
    assert loaded["device"] == mg.device("cpu")
    assert loaded["numpy"] == 2.5
    assert list(loaded["tensors"]) == list(tensors)
    for name, tensor in tensors.items():
        got = loaded["tensors"][name]
        # Half precision is widened, which changes no value.
        expected = tensor.detach().float() if name in ("half", "bfloat16") else tensor.detach()
        assert got.dtype == expected.numpy().dtype, name
        assert np.array_equal(got.detach().numpy(), expected.numpy()), name
        assert got.requires_grad == tensor.requires_grad, name
    assert isinstance(loaded["tensors"]["parameter"], nn.Parameter)


def test_tensors_share_memory_as_they_did():
    x = torch.arange(6.0)
    loaded = mg.load(saved_by_torch([x, x[2:4], x]))
    loaded[0][2] = 7.0
    assert loaded[1][0].item() == 7.0
    assert loaded[2][2].item() == 7.0

    file = io.BytesIO()
    weight = mg.ones(2, 2)
    mg.save([weight, weight], file)
    file.seek(0)
    first, second = torch.load(file)
    assert first.data_ptr() == second.data_ptr()


def test_torch_loads_what_save_wrote(tmp_path):
    tensors = {name: mg.load(saved_by_torch(value)) for name, value in torch_tensors().items()}
    path = tmp_path / "state.pth"
    mg.save({"tensors": tensors, "dtype": mg.float64, "device": mg.device("cpu"), **VALUES}, path)
    for loaded in (torch.load(path), torch.load(path, mmap=True)):
        assert {key: loaded[key] for key in VALUES} == VALUES
        assert loaded["dtype"] == torch.float64
        assert loaded["device"] == torch.device("cpu")
        for name, tensor in tensors.items():
            assert np.array_equal(loaded["tensors"][name].detach(), tensor.detach().numpy()), name
            assert loaded["tensors"][name].requires_grad == tensor.requires_grad
        assert isinstance(loaded["tensors"]["parameter"], torch.nn.Parameter)
    again = mg.load(path)
    assert {key: again[key] for key in VALUES} == VALUES
    assert [file.name for file in tmp_path.iterdir()] == ["state.pth"]


def networks(library):
    model = library.nn.Sequential(library.nn.Conv2d(3, 4, 3), library.nn.BatchNorm2d(4))
    optimizer = library.optim.Adam(model.parameters(), lr=0.1)
    model(library.ones(2, 3, 6, 6)).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize(("source", "target"), [(torch, mg), (mg, torch)], ids=["to", "from"])
def test_a_training_goes_on_in_the_other_library(source, target):
    model, optimizer = networks(source)
    file = io.BytesIO()
    source.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = target.load(file)
    assert state["model"]._metadata == model.state_dict()._metadata
    other, theirs = networks(target)
    other.load_state_dict(state["model"])
    theirs.load_state_dict(state["optimizer"])
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())
        average = optimizer.state[a]["exp_avg"], theirs.state[b]["exp_avg"]
        assert np.array_equal(*(np.asarray(t.numpy()) for t in average))


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile-was-here",)


class Attributes:
    def __init__(self):
        self.value = 1


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Hostile(), f"{os.mkdir.__module__}.mkdir"),
        ([{"a": Attributes()}], "Attributes"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({((("deep",),),): 1}, "a key of type tuple"),
        (torch.complex(torch.ones(2), torch.ones(2)), "ComplexFloatStorage"),
    ],
    ids=["function", "class", "module", "key", "complex"],
)
def test_nothing_else_is_read(value, name, zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = saved_by_torch(value, _use_new_zipfile_serialization=zipped)
    with pytest.raises(mg.CheckpointError, match=f"asks for .*{name}"):
        mg.load(file)
    assert not list(tmp_path.iterdir())


# (), and forty times the pair of what was there: few bytes, and 2^40 of text.
NESTED = b")" + 40 * b"q\x01h\x01\x86"


@pytest.mark.parametrize(
    "program",
    [
        b"(" + NESTED + b"K\x01K\x01K\x01K\x01tQ.",
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000"
        b"X\3\0\0\0cpuK\4tQK\0" + NESTED + b"K\1\x85\x89NtR.",
        b"c_codecs\nencode\n(X\1\0\0\0a" + NESTED + b"tR.",
        b"cnumpy\ndtype\n(" + NESTED + b"tR.",
        b"ctorch\ndevice\n(" + NESTED + b"tR.",
        b"ctorch\ndevice\n(X\3\0\0\0cpu" + NESTED + b"tR.",
        NESTED + NESTED + b"\x93.",
    ],
    ids=["storage", "size", "encoding", "dtype", "device", "index", "name"],
)
def test_messages_do_not_spell_out_what_has_no_end(program):
    with pytest.raises(mg.CheckpointError, match="asks for"):
        mg.load(rewritten(lambda name, c: b"\x80\2" + program if name.endswith("pkl") else c))


# A tensor of 2^48 rows, all of them one number.
ENDLESS = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000"
    b"X\3\0\0\0cpuK\1tQK\0(\x8a\x07\0\0\0\0\0\0\x01t(K\0tNNtR"
)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cbuiltins\nlist\n(" + ENDLESS + b"tR.", "the items of a Tensor"),
        (b"cbuiltins\nset\n(" + ENDLESS + b"tR.", "the items of a Tensor"),
        (b"cbuiltins\ndict\n(" + ENDLESS + b"tR.", "the items of a Tensor"),
        (b"ctorch\nSize\n(" + ENDLESS + b"tR.", "the items of a Tensor"),
        (b"ctorch\nSize\n" + ENDLESS + b"R.", "the items of a Tensor"),
        (
            b"(](" + b"N" * 10_000 + b"eq\0cbuiltins\nlist\nq\1" + b"h\1(h\0tR" * 10_000 + b"t.",
            "more and more copies",
        ),
        (
            b"(X\0\0\1\0"
            + b"a" * 65536
            + b"q\0c_codecs\nencode\nq\1"
            + b"h\1(h\0tR" * 9000
            + b"t.",
            "more and more copies",
        ),
    ],
    ids=["list", "set", "dict", "size", "arguments", "copies of a list", "copies of a text"],
)
def test_files_that_would_fill_the_memory_are_refused(program, message):
    tracemalloc.start()
    try:
        with pytest.raises(mg.CheckpointError, match=message):
            mg.load(rewritten(lambda name, c: b"\x80\2" + program if name.endswith("pkl") else c))
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def rewritten(change, compression=zipfile.ZIP_STORED) -> io.BytesIO:
    """A file of torch's, in which change(name, content) has changed the entries."""
    file = io.BytesIO()
    source = zipfile.ZipFile(saved_by_torch({"x": torch.arange(4.0)}))
    with zipfile.ZipFile(file, "w", compression) as target:
        for name in source.namelist():
            content = change(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (io.BytesIO(b"not a file of torch"), "no file of torch.save's"),
        (io.BytesIO(b""), "no file of torch.save's"),
        (io.BytesIO(pickle.dumps({"a": 1})), "a pickle that torch.save did not write"),
        (rewritten(lambda name, content: content, zipfile.ZIP_DEFLATED), "compressed"),
        (rewritten(lambda name, content: None if name.endswith("pkl") else content), "archive"),
        (
            rewritten(lambda name, content: content[:8] if "data/" in name else content),
            "4 elements of a storage of 2",
        ),
        (rewritten(lambda name, c: b"X" if name.endswith("byteorder") else c), "damaged: KeyError"),
    ],
)
def test_other_files_are_refused(file, message):
    with pytest.raises(mg.CheckpointError, match=message):
        mg.load(file)


def test_big_endian_files():
    def swap(name, content):
        if name.endswith("byteorder"):
            return b"big"
        return np.frombuffer(content, "<f4").astype(">f4").tobytes() if "data/" in name else content

    assert mg.load(rewritten(swap))["x"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_damaged_files_are_errors_and_take_no_memory(zipped):
    whole = saved_by_torch(
        {"tensors": torch_tensors(), **VALUES}, _use_new_zipfile_serialization=zipped
    ).getvalue()
    chance = random.Random(0)
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(500):
            damaged = bytearray(whole)
            for _ in range(chance.choice([1, 1, 8])):
                damaged[chance.randrange(len(whole))] = chance.choice(
                    [0, 255, chance.randrange(256)]
                )
            if chance.random() < 0.3:
                del damaged[chance.randrange(len(whole)) :]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                mg.load(io.BytesIO(bytes(damaged)))
            except (mg.CheckpointError, mg.DeviceError):
                refused += 1
            assert tracemalloc.get_traced_memory()[1] - before < 40 * len(whole)
    finally:
        tracemalloc.stop()
    assert refused > 100  # what hits a tensor's values in a file without checksums is not seen


def test_map_location(tmp_path):
    path = tmp_path / "state.pt"
    mg.save({"x": mg.arange(3)}, path)
    for place in ("cpu", mg.device("cpu"), {"cpu": "cpu"}, {}, lambda storage, location: storage,
                  lambda storage, location: None):  # fmt: skip
        assert mg.load(path, map_location=place)["x"].tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match="map_location must be a device"):
        mg.load(path, map_location=3)


@pytest.mark.skipif(mg.cuda.is_available(), reason="a GPU is here")
def test_tensors_of_a_device_that_is_not_here():
    file = rewritten(
        lambda name, content: (
            content.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
            if name.endswith("pkl")
            else content
        )
    )
    with pytest.raises(mg.DeviceError, match=r"go to cuda:0: .*map_location='cpu'"):
        mg.load(file)
    file.seek(0)
    assert mg.load(file, map_location="cpu")["x"].tolist() == [0, 1, 2, 3]


def test_save_names_what_it_cannot_hold(tmp_path):
    path = tmp_path / "state.pth"
    path.write_bytes(b"before")
    for value, message in [
        (nn.Linear(2, 2), r"got Linear at obj; save its state_dict\(\)"),
        ({"a": [1, np.ones(2)]}, r"got ndarray at obj\['a'\]\[1\]; make a tensor of it"),
        ({"f": print}, r"got builtin_function_or_method at obj\['f'\]"),
    ]:
        with pytest.raises(TypeError, match=message):
            mg.save(value, path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        mg.save({}, tmp_path / "absent" / "state.pth")
    with pytest.raises(FileNotFoundError, match="no such file"):
        mg.load(tmp_path / "absent.pth")
    assert path.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_refers_to_itself_is_kept(tmp_path):
    value = [1]
    value.append(value)
    mg.save({"v": value, "again": value}, tmp_path / "v.pt")
    loaded = mg.load(tmp_path / "v.pt")
    assert loaded["v"][1] is loaded["v"] is loaded["again"]


def test_a_pipe_is_written_to_and_stays(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor() as pool:
        content = pool.submit(path.read_bytes)
        mg.save({"a": 1}, path)
        assert mg.load(io.BytesIO(content.result())) == {"a": 1}
    assert path.is_fifo()


def test_a_file_in_a_compressor(tmp_path):
    for module in (gzip, bz2, lzma):
        with module.open(tmp_path / "net", "wb") as file:
            mg.save({"weight": mg.ones(2)}, file)
        for load in (mg.load, torch.load):
            with module.open(tmp_path / "net", "rb") as file:
                assert load(file)["weight"].tolist() == [1, 1]
