"""Files: exchange with torch, exact resumption, atomic writing, damaged and foreign files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import Tensor, nn, optim, serialization
from minigrad.errors import CheckpointError
from minigrad.serialization import load_checkpoint, load_file, save_checkpoint, save_file


def network(lib=nn):
    return lib.Sequential(
        lib.Conv2d(2, 4, 3, padding=1),
        lib.BatchNorm2d(4),
        lib.ReLU(),
        lib.Dropout(0.3),
        lib.MaxPool2d(2),
        lib.Flatten(),
        lib.Linear(36, 3),
    )


class Training:
    """A model, an optimiser and a schedule, and steps on data that the step number decides."""

    def __init__(self, kind="Adam", seed=0):
        mg.manual_seed(seed)
        self.model = network()
        params = [
            {"params": [p for n, p in self.model.named_parameters() if n.endswith("weight")]},
            {
                "params": [p for n, p in self.model.named_parameters() if n.endswith("bias")],
                "weight_decay": 0.0,
            },
        ]
        options = {
            "Adam": {"lr": 0.01, "weight_decay": 0.1},
            "AdamW": {"lr": 0.01, "amsgrad": True},
            "SGD": {"lr": 0.01, "momentum": 0.9, "nesterov": True},
        }[kind]
        self.optimizer = getattr(optim, kind)(params, **options)
        self.scheduler = optim.lr_scheduler.OneCycleLR(self.optimizer, 0.05, total_steps=8)

    def steps(self, numbers):
        for number in numbers:
            rng = np.random.default_rng(number)
            images = Tensor(rng.standard_normal((5, 2, 6, 6)).astype(np.float32))
            labels = Tensor(rng.integers(0, 3, 5))
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(images), labels).backward()
            self.optimizer.step()
            self.scheduler.step()
        return self

    @property
    def parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def values(self):
        """Everything that training changes, as bytes and numbers."""
        found = {n: t.array.tobytes() for n, t in self.model.state_dict().items()}
        saved = self.optimizer.state_dict()
        for index, state in saved["state"].items():
            for key, value in state.items():
                found[f"{index}.{key}"] = (
                    value.array.tobytes() if isinstance(value, Tensor) else value
                )
        found["groups"] = repr(saved["param_groups"])
        found["schedule"] = repr(sorted(self.scheduler.state_dict().items()))
        found["generator"] = repr(mg.default_generator.get_state())
        return found


# State dicts ----------------------------------------------------------------------------------


def test_state_dicts_are_exchanged_with_torch_both_ways(tmp_path):
    ours, theirs = network(), network(torch.nn)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), path)
    ours.load_state_dict(load_file(path))
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name].array, tensor.numpy())
    nn.init.normal_(ours[0].weight)
    save_file(ours.state_dict(), str(path), metadata={"made_by": "test"})
    theirs.load_state_dict(safetensors.torch.load_file(path))
    np.testing.assert_array_equal(theirs[0].weight.detach().numpy(), ours[0].weight.array)
    x = np.random.default_rng(0).standard_normal((2, 2, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(
        ours.eval()(Tensor(x)).array, theirs.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-4,
        atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (2, 3, 4, 5)])
def test_every_dtype_and_memory_order_survives(tmp_path, dtype, shape):
    values = (np.random.default_rng(0).uniform(0, 9, shape)).astype(dtype)
    tensors = {
        "c": Tensor(np.asarray(values)),
        "f": Tensor(np.asfortranarray(values)),
        "gap": Tensor(np.stack([values, values], -1)[..., 0]),
    }
    save_file(tensors, tmp_path / "t")
    loaded = load_file(tmp_path / "t", device="reference")
    assert sorted(loaded) == ["c", "f", "gap"]
    for tensor in loaded.values():
        assert tensor.dtype == dtype
        assert str(tensor.device) == "reference"
        np.testing.assert_array_equal(tensor.array, values)


def test_loaded_tensors_are_writable_and_own_their_memory(tmp_path):
    save_file({"a": Tensor(np.ones(3))}, tmp_path / "t")
    tensor = load_file(tmp_path / "t")["a"]
    nn.init.zeros_(tensor)
    os.remove(tmp_path / "t")
    assert tensor.array.tolist() == [0, 0, 0]
    assert tensor.array.flags.aligned


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_file(tmp_path / "absent")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_file(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        load_file(tmp_path / "text")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        load_file(tmp_path / "empty")
    safetensors.torch.save_file({"w": torch.ones(2).to(torch.float8_e5m2)}, tmp_path / "f8")
    with pytest.raises(CheckpointError, match="'w' has dtype F8_E5M2; minigrad reads float32"):
        load_file(tmp_path / "f8")
    with pytest.raises(TypeError, match="names to Tensors, got 'w': ndarray"):
        save_file({"w": np.ones(2)}, tmp_path / "t")
    with pytest.raises(FileNotFoundError, match="no folder"):
        save_file({"w": Tensor(np.ones(2))}, tmp_path / "absent" / "t")
    with pytest.raises(IsADirectoryError):
        save_file({"w": Tensor(np.ones(2))}, tmp_path)


# Checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD"])
def test_resuming_is_exact_to_the_bit(tmp_path, kind):
    path = tmp_path / "last.safetensors"
    straight = Training(kind).steps(range(4)).values()

    half = Training(kind).steps(range(2))
    save_checkpoint(path, **half.parts, epoch=2, history=[{"loss": 0.1}], note=None)
    at_save = half.values()

    resumed = Training(kind, seed=99).steps([7])  # other weights, state and random numbers
    extra = load_checkpoint(path, **resumed.parts)
    assert extra == {"epoch": 2, "history": [{"loss": 0.1}], "note": None}
    assert resumed.values() == at_save
    assert resumed.steps(range(2, 4)).values() == straight
    assert straight != at_save


def test_parts_can_be_loaded_alone(tmp_path):
    path = tmp_path / "c"
    training = Training().steps(range(2))
    save_checkpoint(path, **training.parts)
    other = Training(seed=5)
    before = other.optimizer.state_dict()["param_groups"][0]["lr"]
    state = mg.default_generator.get_state()
    assert load_checkpoint(path, model=other.model, generator=False) == {}
    assert mg.default_generator.get_state() == state
    assert other.optimizer.state_dict()["param_groups"][0]["lr"] == before
    np.testing.assert_array_equal(other.model[0].weight.array, training.model[0].weight.array)
    assert load_checkpoint(path, generator=False) == {}


def test_a_checkpoint_of_a_model_is_read_by_torch(tmp_path):
    training = Training().steps(range(1))
    save_checkpoint(tmp_path / "c", model=training.model)
    tensors = safetensors.torch.load_file(tmp_path / "c")
    theirs = network(torch.nn)
    theirs.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items()})


def test_what_does_not_fit_changes_nothing(tmp_path):
    path = tmp_path / "c"
    training = Training().steps(range(2))
    save_checkpoint(path, **training.parts)
    other = Training(seed=5).steps([3])
    before = other.values()
    wider = nn.Sequential(nn.Conv2d(2, 5, 3), *list(network())[1:])
    cases = [
        ({"model": wider, "optimizer": other.optimizer}, r"for 0.weight: must have shape \(5, 2"),
        (
            {"model": other.model, "optimizer": optim.SGD(other.model.parameters())},
            "SGD: the saved",
        ),
        (
            {"model": other.model, "optimizer": optim.Adam(other.model.parameters())},
            r"saved groups have \[3, 3\] parameters, this optimiser's have \[6\]",
        ),
        (
            {**other.parts, "scheduler": optim.lr_scheduler.StepLR(Training().optimizer, 2)},
            "another schedule's",
        ),
    ]
    mg.default_generator.set_state(json.loads(before["generator"].replace("'", '"')))
    for parts, match in cases:
        with pytest.raises(CheckpointError, match=match) as caught:
            load_checkpoint(path, **parts)
        assert str(path) in str(caught.value)
        assert other.values() == before
    save_checkpoint(path, model=training.model)
    with pytest.raises(CheckpointError, match="the checkpoint holds no optimizer"):
        load_checkpoint(path, **other.parts)
    assert other.values() == before
    assert load_checkpoint(path, model=training.model) == {}


def test_damaged_checkpoints_are_refused_and_change_nothing(tmp_path):
    path = tmp_path / "c"
    training = Training().steps(range(2))
    save_checkpoint(path, **training.parts)
    whole = path.read_bytes()
    other = Training(seed=5)
    before = other.values()
    header = int.from_bytes(whole[:8], "little")
    spoiled = {
        "cut short": whole[:-10],
        "cut in the header": whole[: header // 2],
        "a flipped bit in the tensors": whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:],
        "another number in the header": whole.replace(b'eps\\": 1e-08', b'eps\\": 2e-08', 1),
        "nothing": b"",
    }
    for content in spoiled.values():
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(path, **other.parts)
        assert other.values() == before
    path.write_bytes(whole)
    load_checkpoint(path, **other.parts)
    assert other.values() == training.values()


def test_other_files_are_no_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "absent")
    save_file({"w": Tensor(np.ones(2))}, tmp_path / "weights")
    with pytest.raises(CheckpointError, match="no checkpoint of minigrad; read it with load_file"):
        load_checkpoint(tmp_path / "weights")
    serialization._write({}, tmp_path / "future", _stamped('{"format": 99}'))
    with pytest.raises(CheckpointError, match="has checkpoint format 99; this version reads 1"):
        load_checkpoint(tmp_path / "future")


def _stamped(text):
    return {"minigrad": text, "crc32": serialization._checksum(text, {})}


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, stage):
    path = tmp_path / "c"
    model = network()
    save_checkpoint(path, model=model, epoch=1)
    old = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, stage, fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, model=model, epoch=2)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["c"]


def test_values_that_json_lacks_are_refused_before_writing(tmp_path):
    with pytest.raises(TypeError, match="only JSON values can be saved"):
        save_checkpoint(tmp_path / "c", model=network(), bad={1, 2})
    assert not os.listdir(tmp_path)
    save_checkpoint(tmp_path / "c", accuracy=np.float32(0.5), steps=np.int64(3))
    assert load_checkpoint(tmp_path / "c") == {"accuracy": 0.5, "steps": 3}


def test_a_link_to_a_checkpoint_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(Path("real") / "c")
    save_checkpoint(link, epoch=1)
    assert link.is_symlink()
    assert (tmp_path / "real" / "c").is_file()
    assert load_checkpoint(link) == {"epoch": 1}


def test_saved_files_have_ordinary_permissions(tmp_path):
    save_checkpoint(tmp_path / "c", epoch=1)
    (tmp_path / "plain").touch()
    assert (tmp_path / "c").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_half_precision_is_widened(tmp_path):
    x = torch.randn(3, 4)
    tensors = {"half": x.half(), "bfloat16": x.bfloat16(), "float": x}
    safetensors.torch.save_file(tensors, tmp_path / "x.safetensors")
    loaded = load_file(tmp_path / "x.safetensors")
    for name, tensor in tensors.items():
        assert loaded[name].dtype == mg.float32
        assert np.array_equal(loaded[name].numpy(), tensor.float().numpy())


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("shape", [[1] * 70, [2**62, 0]])
def test_shapes_that_numpy_lacks_are_refused(tmp_path, dtype, shape):
    size = (4 if dtype == "F32" else 2) * (0 not in shape)
    head = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(size))
    with pytest.raises(CheckpointError, match=r"file\.safetensors is damaged or no safetensors"):
        load_file(path)


def test_the_name_that_the_format_keeps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'__metadata__' for itself"):
        save_file({"__metadata__": mg.ones(1)}, tmp_path / "x.safetensors")


def test_weights_of_other_libraries_are_taken():
    model, other = nn.Linear(3, 2), torch.nn.Linear(3, 2)
    for convert in (
        lambda t: t, lambda t: t.detach().numpy(), lambda t: torch.nn.Parameter(t),
        lambda t: t.half(), lambda t: t.bfloat16(), lambda t: t.detach().numpy().astype(np.float16),
        lambda t: t.double(),
    ):  # fmt: skip
        state = {name: convert(tensor) for name, tensor in other.state_dict().items()}
        model.load_state_dict(state)
        for name, tensor in state.items():
            expected = tensor.detach().float().numpy() if torch.is_tensor(tensor) else tensor
            assert np.array_equal(model.state_dict()[name].numpy(), expected.astype(np.float32))
    with pytest.raises(CheckpointError, match="weight must be a Tensor: list does not offer"):
        model.load_state_dict({"weight": [1.0], "bias": mg.zeros(2)})


def test_a_prefix_of_all_names_is_named():
    state = {f"module.{name}": tensor for name, tensor in nn.Linear(3, 2).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"All names begin with 'module\.': take it off"):
        nn.Linear(3, 2).load_state_dict(state)
    with pytest.raises(CheckpointError) as caught:
        nn.Linear(3, 2).load_state_dict({"module.weight": mg.zeros(2, 3), "bias": mg.zeros(2)})
    assert "All names" in str(caught.value)
    with pytest.raises(CheckpointError) as caught:
        nn.Linear(3, 2).load_state_dict({"module.weight": mg.zeros(2, 3), "other": mg.zeros(2)})
    assert "All names" not in str(caught.value)
