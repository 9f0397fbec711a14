"""torchvision.io and torchvision.datasets.utils beside torchvision's; weights from the net."""

from __future__ import annotations

import hashlib
import shutil
import struct
import tarfile
import threading
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets.utils
import torchvision.io
from PIL import Image

import minigrad as mg
from minigrad import accelerator, compiler, hub, nn
from minigrad.utils import model_zoo
from minigrad.vision import downloads, io

COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("mode", ["UNCHANGED", "GRAY", "RGB", "RGB_ALPHA"])
def test_images_are_read_as_torchvision_reads_them(tmp_path: Path, kind: str, mode: str) -> None:
    file = tmp_path / "image.png"
    Image.fromarray(COLOURS).convert(kind).save(file)
    mine = io.read_image(file, io.ImageReadMode[mode])
    theirs = torchvision.io.read_image(str(file), torchvision.io.ImageReadMode[mode]).numpy()
    assert mine.shape == theirs.shape
    assert mine.dtype == mg.uint8
    # Pillow rounds grey in another way.
    assert np.abs(mine.numpy().astype(int) - theirs).max() <= (mode == "GRAY")
    assert (io.decode_image(io.read_file(file), mode.lower()).numpy() == mine.numpy()).all()


@pytest.mark.parametrize("options", [{}, {"transparency": 3}, {"transparency": bytes(range(256))}])
def test_a_palette_is_read_as_indices_or_colours(tmp_path: Path, options: dict[str, Any]) -> None:
    file = tmp_path / "mask.png"
    Image.fromarray(COLOURS).convert("P").save(file, **options)
    for mode in ("UNCHANGED", "RGB", *(["RGB_ALPHA"] if options else [])):
        theirs = torchvision.io.read_image(str(file), torchvision.io.ImageReadMode[mode]).numpy()
        assert np.array_equal(io.read_image(file, mode).numpy(), theirs)
    Image.fromarray(COLOURS).convert("P").save(tmp_path / "a.gif")
    assert io.read_image(tmp_path / "a.gif").shape == (3, 5, 7)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_pixels_of_16_bits_are_scaled(tmp_path: Path, colour: int, channels: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    pixels = np.random.default_rng(0).integers(0, 65536, (5, 7, channels)).astype(">u2")
    head = struct.pack(">IIBBBBB", 7, 5, 16, colour, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    file = tmp_path / "deep.png"
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )  # fmt: skip
    mine, theirs = io.read_image(file).numpy(), torchvision.io.read_image(str(file)).numpy()
    assert mine.shape == theirs.shape
    assert np.abs(mine - theirs / 257).max() <= 1


def test_images_are_written(tmp_path: Path) -> None:
    for channels in (1, 3):
        pixels = mg.tensor(COLOURS.transpose(2, 0, 1)[:channels].copy())
        io.write_png(pixels, tmp_path / "image.png")
        assert (torchvision.io.read_image(tmp_path / "image.png").numpy() == pixels.numpy()).all()
        io.write_jpeg(pixels, tmp_path / "image.jpg", quality=100)
        assert io.read_image(tmp_path / "image.jpg").shape == pixels.shape
    with pytest.raises(mg.DTypeError, match="encode_png: expects uint8, got float32"):
        io.write_png(mg.zeros(3, 2, 2), tmp_path / "image.png")
    with pytest.raises(mg.ShapeError, match=r"encode_jpeg: expects shape \(1 or 3, H, W\)"):
        io.write_jpeg(mg.zeros(2, 2, 2, dtype=mg.uint8), tmp_path / "image.jpg")
    (tmp_path / "damaged.png").write_bytes(b"no image")
    for mode in ("UNCHANGED", "RGB"):
        with pytest.raises(mg.DataError, match=r"read_image: cannot decode .*damaged.png"):
            io.read_image(tmp_path / "damaged.png", io.ImageReadMode[mode])
    Image.fromarray(COLOURS).convert("1").save(tmp_path / "bits.png")
    assert set(io.read_image(tmp_path / "bits.png").unique().tolist()) == {0, 255}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """A folder, and the url at which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_archives_are_fetched_checked_and_unpacked(site: Any, tmp_path: Path) -> None:
    folder, url = site
    (tmp_path / "notes.txt").write_text("here")
    with tarfile.open(folder / "data.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "notes.txt", "inner/notes.txt")
    md5 = downloads.calculate_md5(folder / "data.tar.gz")
    assert md5 == torchvision.datasets.utils.calculate_md5(folder / "data.tar.gz")
    root = tmp_path / "root"
    downloads.download_and_extract_archive(f"{url}/data.tar.gz", root, md5=md5)
    assert (root / "inner" / "notes.txt").read_text() == "here"
    assert downloads.check_integrity(root / "data.tar.gz", md5)
    assert not downloads.check_integrity(root / "data.tar.gz", "0" * 32)
    assert not downloads.check_integrity(root / "other")
    assert downloads.list_dir(root) == ["inner"]
    assert downloads.list_files(root / "inner", ".txt", prefix=True) == [f"{root}/inner/notes.txt"]
    assert downloads.extract_archive(root / "data.tar.gz", tmp_path / "to", True) == tmp_path / "to"
    assert not (root / "data.tar.gz").exists()
    with pytest.raises(mg.DataError, match=r"checksum \(MD5\)"):
        downloads.download_url(f"{url}/data.tar.gz", root, "again.tgz", "0" * 32)


def test_weights_come_from_the_net_once(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    monkeypatch.setattr(hub, "_folder", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    assert hub.get_dir() == str(tmp_path / "home" / "hub")
    torch.save({"weight": torch.ones(2)}, folder / "net.pth")
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()
    shutil.copy(folder / "net.pth", folder / f"net-{digest[:8]}.pth")
    shutil.copy(folder / "net.pth", folder / "net-00000000.pth")
    state = model_zoo.load_url(f"{url}/net-{digest[:8]}.pth", check_hash=True)
    assert state["weight"].tolist() == [1, 1]
    (folder / f"net-{digest[:8]}.pth").unlink()
    hub.load_state_dict_from_url(f"{url}/net-{digest[:8]}.pth")
    with pytest.raises(mg.DataError, match=r"the SHA-256 of .*expected 00000000"):
        hub.load_state_dict_from_url(f"{url}/net-00000000.pth", check_hash=True)
    hub.set_dir(tmp_path / "elsewhere")
    with pytest.raises(mg.DataError, match="could not download"):
        hub.load_state_dict_from_url(f"{url}/none.pth")


def test_names_that_scripts_ask_for() -> None:
    assert accelerator.is_available() == mg.cuda.is_available()
    assert (accelerator.current_accelerator() is None) == (not mg.cuda.is_available())
    assert not compiler.is_compiling()
    assert compiler.disable(len) is compiler.disable()(len) is len
    net = nn.Linear(2, 2)
    x = mg.ones(1, 2)
    assert nn.parallel.data_parallel(net, x, [0]).tolist() == net(x).tolist()
    assert x.type(mg.LongTensor).dtype == mg.int64
