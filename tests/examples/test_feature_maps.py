"""Looking inside networks: what hooks see, averages over a data set, pictures, the command line."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as tF
from PIL import Image

import minigrad as mg
from examples import feature_maps as inside
from examples import networks
from minigrad import nn, runtime, serialization, viz
from minigrad.data import ArrayDataset, BucketDataset, DataLoader, Normalize

NORMALIZE = Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
LAYERS = ["conv 1", "ReLU 1", "norm 1", "pool 1", "conv 2", "ReLU 2", "norm 2", "average pool 1"]


def images(count: int, side: int = 8, seed: int = 0) -> ArrayDataset:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    return ArrayDataset(pixels, rng.integers(0, 10, count))


def small_network() -> nn.Sequential:
    """Two convolutions, with running statistics that are not those of a new network."""
    mg.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(6), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    with mg.no_grad():
        for _ in range(3):
            model(mg.randn(16, 3, 8, 8) * 2)
    return model


def by_torch(model: nn.Sequential, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs (N, C, H, W) of the small network's layers, in float64."""
    weights = {n: torch.from_numpy(t.numpy().copy()).double() for n, t in model.state_dict().items()
               if t.dtype == np.float32}  # fmt: skip
    found: dict[str, torch.Tensor] = {}
    x = torch.from_numpy(batch.copy()).double()
    for number, place in enumerate((0, 4), start=1):
        x = found[f"conv {number}"] = tF.conv2d(
            x, weights[f"{place}.weight"], weights[f"{place}.bias"], padding=1
        )
        x = found[f"ReLU {number}"] = tF.relu(x)
        norm = {name: weights[f"{place + 2}.{name}"]
                for name in ("running_mean", "running_var", "weight", "bias")}  # fmt: skip
        x = found[f"norm {number}"] = tF.batch_norm(x, **norm)
        if number == 1:
            x = found["pool 1"] = tF.max_pool2d(x, 2)
    found["average pool 1"] = tF.adaptive_avg_pool2d(x, 1)
    return {name: tensor.numpy() for name, tensor in found.items()}


# What hooks see -----------------------------------------------------------------------------


def test_feature_maps_are_every_layers_output() -> None:
    model = small_network()
    batch = NORMALIZE(images(1).images)
    maps = inside.feature_maps(model, batch)
    assert list(maps) == LAYERS
    for name, expected in by_torch(model, batch.numpy()).items():
        np.testing.assert_allclose(maps[name], expected[0], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["A", "B"])
def test_watched_network_gives_the_bits_of_an_unwatched_one(name: str) -> None:
    mg.manual_seed(0)
    model = networks.build(name, channels=3)
    batch = NORMALIZE(images(3, side=32).images)
    with inside.inference(model):
        fused = model(batch).numpy()
        with nn.no_fusion():
            layer_by_layer = model(batch).numpy()
        seen: list[str] = []
        with inside.watch(model, lambda layer, output: seen.append(layer)):
            watched = model(batch).numpy()
    np.testing.assert_array_equal(watched, fused)
    np.testing.assert_array_equal(watched, layer_by_layer)
    block = ("conv", "ReLU", "norm") if name == "B" else ("conv", "ReLU")
    blocks = [[f"{kind} {number}" for kind in block] for number in range(1, 9)]
    for number in (1, 2, 3):
        blocks[2 * number - 1].append(f"pool {number}")
    assert seen == [*(layer for layers in blocks for layer in layers), "average pool 1"]


def test_watching_ends_with_the_block_even_after_an_error() -> None:
    model = small_network()
    seen: list[str] = []

    def fail() -> None:
        with inside.watch(model, lambda name, output: seen.append(name)):
            model(mg.zeros(2, 3, 8, 8))
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fail()
    assert seen == LAYERS
    model(mg.zeros(2, 3, 8, 8))
    assert seen == LAYERS


def test_a_layer_that_runs_twice_is_seen_twice_and_numbers_start_anew() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 1), relu, nn.Conv2d(4, 4, 1), relu)
    for _ in range(2):
        assert list(inside.feature_maps(model, mg.zeros(1, 3, 4, 4))) == [
            "conv 1", "ReLU 1", "conv 2", "ReLU 2"
        ]  # fmt: skip


def test_modes_and_running_statistics_stay() -> None:
    model = small_network()
    model[2].eval()
    before = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    inside.activation_averages(model, DataLoader(images(10), 4))
    assert [layer.training for layer in (model, model[0], model[2])] == [True, True, False]
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name], err_msg=name)


# Averages -----------------------------------------------------------------------------------


def test_averages_equal_those_of_all_outputs_at_once() -> None:
    model, dataset = small_network(), images(50)
    averages = inside.activation_averages(model, DataLoader(dataset, 7, transform=NORMALIZE))
    assert list(averages) == LAYERS
    outputs: dict[str, np.ndarray] = {}
    with (
        inside.inference(model),
        inside.watch(model, lambda name, output: outputs.update({name: output.numpy().copy()})),
    ):
        batch = NORMALIZE(dataset.images)
        model(batch)
    expected = by_torch(model, batch.numpy())
    for name, found in averages.items():
        own, wide = outputs[name], outputs[name].astype(np.float64)
        assert found.average.dtype == np.float64
        np.testing.assert_allclose(found.average, np.abs(wide).mean(0), rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(found.mean, np.abs(wide).mean(), rtol=1e-12)
        assert found.sparsity == (own == 0).sum() / own.size
        np.testing.assert_allclose(
            found.average, np.abs(expected[name]).mean(0), rtol=1e-5, atol=1e-6, err_msg=name
        )
    assert 0.2 < averages["ReLU 1"].sparsity < 0.9
    assert averages["conv 1"].sparsity == 0


@pytest.mark.parametrize("batch_size", [1, 16, 30])
def test_averages_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    model, dataset = small_network(), images(30)
    few = inside.activation_averages(model, DataLoader(dataset, 13, transform=NORMALIZE))
    many = inside.activation_averages(model, DataLoader(dataset, batch_size, transform=NORMALIZE))
    for name in few:
        np.testing.assert_allclose(many[name].average, few[name].average, rtol=1e-12)
        assert many[name].sparsity == few[name].sparsity


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    model = small_network()

    def peaks(count: int) -> tuple[int, int]:
        loader = DataLoader(images(count, side=16), 100, transform=NORMALIZE)
        runtime.reset_peak_memory_stats()
        tracemalloc.start()
        before = runtime.memory_allocated()
        inside.activation_averages(model, loader)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return runtime.max_memory_allocated() - before, peak

    peaks(100)  # what is made once is made now
    few, many = peaks(200), peaks(2_000)
    assert few[0] > 100 * 6 * 16 * 16 * 4  # the largest output of a batch
    assert many[0] <= few[0]
    assert many[1] < 1.1 * few[1] + 100_000  # the order of the samples: some bytes for each


def test_averages_need_images_of_one_size() -> None:
    model, small = small_network(), images(4).images
    large = images(4, side=16).images
    mixed = BucketDataset([(np.arange(4), small), (np.arange(4, 8), large)], np.zeros(8, int))
    with pytest.raises(ValueError, match="images must be of one size, but conv 1 gives"):
        inside.activation_averages(model, DataLoader(mixed, 4))
    with pytest.raises(ValueError, match="has no images"):
        inside.activation_averages(model, DataLoader(images(4).subset([]), 4))


def test_averages_are_kept_with_what_they_come_from(tmp_path: Path) -> None:
    averages = inside.activation_averages(small_network(), DataLoader(images(20), 8))
    path = tmp_path / "activations.json"
    assert inside.load_averages(path) is None
    inside.save_averages(averages, path, "these weights")
    loaded = inside.load_averages(path, "these weights")
    assert loaded is not None
    assert list(loaded) == list(averages)
    for name, activation in averages.items():
        np.testing.assert_array_equal(loaded[name].average, activation.average)
        assert (loaded[name].mean, loaded[name].sparsity) == (activation.mean, activation.sparsity)
    numbers = json.loads(path.read_text())["layers"]["pool 1"]
    assert numbers["shape"] == [6, 4, 4]
    assert inside.load_averages(path, "other weights") is None
    arrays = path.with_suffix(".npz")
    arrays.write_bytes(arrays.read_bytes()[:1000])
    assert inside.load_averages(path, "these weights") is None


# Pictures -----------------------------------------------------------------------------------


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.convert("L").getextrema()[0] < 250, f"{path} is blank"
        return image.size


def test_pictures_of_every_layer(tmp_path: Path) -> None:
    model, dataset = small_network(), images(20)
    maps = inside.feature_maps(model, NORMALIZE(dataset.images[:1]))
    inside.draw_feature_maps(dataset.images[0], maps, tmp_path / "maps", "small network")
    averages = inside.activation_averages(model, DataLoader(dataset, 8))
    inside.draw_averages(averages, tmp_path / "averages", "small network")
    without_norm = {name: a for name, a in averages.items() if "norm" not in name}
    inside.draw_comparison({"A": without_norm, "B": averages}, tmp_path / "comparison")
    for name in ("maps", "averages", "comparison"):
        wanted = [layer for layer in LAYERS if name != "comparison" or "norm" not in layer]
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == [
            f"{number:02d}-{layer.replace(' ', '-')}.png" for number, layer in enumerate(wanted, 1)
        ]
        for file in (*files, tmp_path / f"{name}.png"):
            width, height = _size(file)
            assert 400 < width < 2000
            assert 150 < height < 2000


def test_every_value_of_a_map_is_a_square_of_its_own_colour(tmp_path: Path) -> None:
    maps = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]]], float)
    viz.plot_channels({"": maps}, tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    # 2 columns in 656 pixels, 4 of them between channels, 2 values in each: 162 × 162 pixels.
    squares = colours[counts == 162 * 162]
    extremes = colours[counts > 162 * 162]  # black text, too, is of the darkest colour
    assert len(squares) + len(extremes) == 8 + 1  # the page itself is white


def test_merged_names_keep_the_order_of_all() -> None:
    assert viz.merged([["a", "c", "e"], ["a", "b", "c", "d"]]) == ["a", "b", "c", "d", "e"]


def test_the_table_leaves_out_what_a_network_lacks() -> None:
    averages = inside.activation_averages(small_network(), DataLoader(images(8), 8))
    without = {name: a for name, a in averages.items() if name != "norm 1"}
    lines = inside.averages_table({"A": without, "B": averages}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == LAYERS
    cells = [cell.strip() for cell in lines[4].split("|")]
    assert cells[1:5] == ["norm 1", "6 × 8×8", "", ""]
    assert cells[6] == f"{averages['norm 1'].mean:.4f}"


# The command line ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder with two classes, 3 training and 2 test images each."""
    root = tmp_path_factory.mktemp("cifar10")
    pixels = iter(images(10, side=32).images)
    for part, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(next(pixels)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Folders of finished runs, of networks that were not trained."""
    monkeypatch.chdir(tmp_path)  # the cache of decoded images goes to runs/cache
    return {name: make_run(tmp_path / name, name) for name in "AB"}


def make_run(folder: Path, network: str, data_root: Path | None = None, **changes: Any) -> Path:
    folder.mkdir()
    mg.manual_seed(1)
    state = networks.build(network, channels=3).state_dict()
    serialization.save_file(state, folder / "best.safetensors")
    settings = {"network": network, "dataset": "cifar10", "mean": [0.5] * 3, "std": [0.25] * 3,
                "size": None}  # fmt: skip
    metrics = {"settings": settings | changes, "data_root": data_root and str(data_root)}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Pictures of single layers, which are not drawn, to save time."""
    paths: list[Path] = []
    monkeypatch.setattr(viz, "plot_channels", lambda panels, path, *a, **k: paths.append(path))
    return paths


def test_two_runs_are_compared(
    runs: dict[str, Path],
    cifar10: Path,
    tmp_path: Path,
    drawn: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    command = [*map(str, runs.values()), "--data-root", str(cifar10), "--out", str(out)]
    inside.main([*command, "--image", "3"])
    assert len(drawn) == 2 * 20 + 2 * 28 + 20
    names = ["feature-maps-A", "average-activations-A", "feature-maps-B", "average-activations-B",
             "comparison"]  # fmt: skip
    assert list(dict.fromkeys(path.parent.name for path in drawn)) == names
    assert sorted(file.stem for file in out.glob("*.png")) == sorted(names)
    text = (out / "table.md").read_text()
    assert "norm 8" in text
    assert "6 training images" in text
    assert text.splitlines()[3] in capsys.readouterr().out
    kept = json.loads((out / "activations-B.json").read_text())["layers"]
    assert kept["norm 8"]["shape"] == [128, 4, 4]
    assert kept["ReLU 1"]["sparsity"] > 0

    # Once more: the averages are there. Of other images they are not.
    computed: list[int] = []
    compute = inside.activation_averages

    def counted(model: nn.Module, loader: DataLoader) -> dict[str, inside.Activation]:
        computed.append(len(loader.dataset))
        return compute(model, loader)

    monkeypatch.setattr(inside, "activation_averages", counted)
    monkeypatch.setattr(viz, "plot_layers", lambda *arguments: None)
    inside.main(command)
    assert not computed
    assert (out / "table.md").read_text() == text
    inside.main([*command, "--limit", "2"])
    assert computed == [2, 2]


def test_one_run_and_an_image_of_ones_own(
    runs: dict[str, Path], cifar10: Path, tmp_path: Path, drawn: list[Path]
) -> None:
    file = tmp_path / "own.png"
    Image.fromarray(images(1, side=32).images[0]).save(file)
    inside.main([str(runs["A"]), "--data-root", str(cifar10), "--image-file", str(file)])
    found = sorted(path.stem for path in (runs["A"] / "maps").glob("*.png"))
    assert found == ["average-activations-A", "feature-maps-A"]


def test_images_come_in_the_size_that_the_network_was_trained_on(
    cifar10: Path, tmp_path: Path, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "small", "A", size=16)
    inside.main([str(run), "--data-root", str(cifar10)])
    kept = json.loads((run / "maps" / "activations-A.json").read_text())["layers"]
    assert kept["conv 1"]["shape"] == [16, 16, 16]
    other = make_run(tmp_path / "large", "A", size=None)
    with pytest.raises(SystemExit, match="images of different sizes"):
        inside.main([str(run), str(other), "--data-root", str(cifar10)])


def test_a_run_remembers_its_images(
    cifar10: Path,
    tmp_path: Path,
    drawn: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = "an image folder of .png files"
    run = make_run(tmp_path / "A", "A", cifar10, images=folder)
    inside.main([str(run), "--limit", "1"])
    said = capsys.readouterr().out
    assert "Over 1 training image." in said
    assert "trained on" not in said
    jpeg = make_run(tmp_path / "jpeg", "A", cifar10, images="the original files")
    inside.main([str(jpeg), "--limit", "1"])
    told = f"These images are {folder}; the network was trained on the original files."
    assert told in capsys.readouterr().out
    gone = make_run(tmp_path / "gone", "A", tmp_path / "unplugged")
    with pytest.raises(SystemExit, match=r"unplugged, which the run was trained on, is gone"):
        inside.main([str(gone)])
    with pytest.raises(SystemExit, match=r"images in .*cifar10.* and .*unplugged: choose with"):
        inside.main([str(run), str(gone)])
    inside.main([str(gone), "--data-root", str(cifar10), "--limit", "1"])


def test_runs_of_one_network_are_told_apart(runs: dict[str, Path], tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", "A")
    assert list(inside.open_runs([runs["A"], other])) == ["A1", "A2"]


def test_wrong_runs_are_one_sentence(runs: dict[str, Path], tmp_path: Path) -> None:
    def refused(folder: Path, message: str) -> None:
        with pytest.raises(SystemExit, match=message) as raised:
            inside.main([str(folder)])
        assert "\n" not in str(raised.value)

    refused(tmp_path / "nowhere", "there is no folder .*nowhere")
    refused(make_run(tmp_path / "mnist", "A", dataset="mnist"), "network A trained on mnist")
    refused(make_run(tmp_path / "flat", "A", std=[0.0] * 3), "metrics.json does not say")
    (runs["A"] / "best.safetensors").write_bytes((runs["B"] / "best.safetensors").read_bytes())
    refused(runs["A"], "best.safetensors do not fit network A, which metrics.json names")
    (runs["A"] / "best.safetensors").write_bytes(b"{}")
    refused(runs["A"], "best.safetensors")
    (runs["A"] / "best.safetensors").unlink()
    refused(runs["A"], "holds no finished training run: best.safetensors is missing")
    (runs["B"] / "metrics.json").write_text("{}")
    refused(runs["B"], "metrics.json does not say which network was trained")
    (runs["B"] / "metrics.json").unlink()
    refused(runs["B"], "holds no finished training run: metrics.json is missing")


def test_wrong_images_are_one_sentence(
    runs: dict[str, Path], cifar10: Path, tmp_path: Path
) -> None:
    def refused(message: str, *arguments: str) -> None:
        with pytest.raises(SystemExit, match=message):
            inside.main([str(runs["A"]), "--data-root", str(cifar10), *arguments])

    refused("--image 4: the test images have the numbers 0 to 3", "--image", "4")
    refused("--image -1: the test images", "--image", "-1")
    small, text = tmp_path / "small.png", tmp_path / "text.png"
    Image.new("RGB", (20, 30)).save(small)
    text.write_text("no image")
    refused(r"small.png has 20×30 pixels, the networks were trained on 32×32",
            "--image-file", str(small))  # fmt: skip
    refused("cannot read .*text.png", "--image-file", str(text))
    refused("cannot read .*none.png", "--image-file", str(tmp_path / "none.png"))
