"""Downloads, from a server of this process."""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from minigrad.data.download import fetch, unpack
from minigrad.errors import DataError
from minigrad.vision import datasets

CONTENT = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    """/file, /half (ends in the middle, once), /wrong (other bytes), /ignores-range."""

    def do_GET(self):
        server = self.server
        name = self.path.rpartition("/")[2]
        server.requests.append((name, self.headers.get("Range")))
        content = server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        begin = 0
        asked = self.headers.get("Range")
        if asked and name not in server.ignores_range:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        rest = content[begin:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if name in server.cut:
            server.cut.remove(name)
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.cut, server.ignores_range = {}, [], [], []
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_a_file_arrives_once(server, tmp_path):
    server.files["file"] = CONTENT
    path = tmp_path / "new" / "file"
    for _ in range(2):
        assert fetch(f"{server.url}file", path, md5(CONTENT)) == path
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("ignores", [False, True])
def test_an_interrupted_download_goes_on(server, tmp_path, ignores):
    server.files["file"] = CONTENT
    server.cut = ["file"]
    server.ignores_range = ["file"] * ignores
    with pytest.raises(DataError, match="the connection ended after 128,000 of 256,000 bytes"):
        fetch(f"{server.url}file", tmp_path / "file", md5(CONTENT))
    assert (tmp_path / "file.part").stat().st_size == 128_000
    assert not (tmp_path / "file").exists()
    fetch(f"{server.url}file", tmp_path / "file", md5(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests[-1] == ("file", "bytes=128000-")


def test_what_arrived_whole_is_not_sent_again(server, tmp_path):
    server.files["file"] = CONTENT
    (tmp_path / "file.part").write_bytes(CONTENT)
    fetch(f"{server.url}file", tmp_path / "file", md5(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_mirrors_and_checksums(server, tmp_path):
    server.files["wrong"] = b"other bytes"
    server.files["file"] = CONTENT
    urls = [f"{server.url}{name}" for name in ("absent", "wrong", "file")]
    fetch(urls, tmp_path / "file", md5(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT
    (tmp_path / "file").unlink()
    with pytest.raises(DataError, match=r"(?s)could not download file; put it into .*404.*MD5"):
        fetch(urls[:2], tmp_path / "file", md5(CONTENT))
    assert not list(tmp_path.iterdir())


def test_without_a_network_no_folders_are_left(tmp_path):
    with pytest.raises(DataError, match="could not download file"):
        fetch("http://127.0.0.1:9/file", tmp_path / "MNIST" / "raw" / "file")
    assert not list(tmp_path.iterdir())


def test_another_mirror_goes_on_where_one_broke_off(server, tmp_path):
    server.files["a"] = server.files["b"] = CONTENT
    server.cut = ["a"]
    fetch([f"{server.url}a", f"{server.url}b"], tmp_path / "file", md5(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests == [("a", None), ("b", "bytes=128000-")]


def test_what_arrived_of_another_file_is_sent_anew(server, tmp_path):
    server.files["file"] = CONTENT
    for begin in (b"another", b"x" * 300_000):
        (tmp_path / "file.part").write_bytes(begin)
        (tmp_path / "file").unlink(missing_ok=True)
        fetch(f"{server.url}file", tmp_path / "file", md5(CONTENT))
        assert (tmp_path / "file").read_bytes() == CONTENT


def test_of_several_who_want_a_file_one_downloads_it(server, tmp_path):
    server.files["file"] = CONTENT
    path = tmp_path / "new" / "file"
    with ThreadPoolExecutor() as pool:  # each with a descriptor of its own, as processes have
        found = [pool.submit(fetch, f"{server.url}file", path, md5(CONTENT)) for _ in range(4)]
    assert [each.result() for each in found] == [path] * 4
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_two_processes_that_train_on_mnist_at_once(server, tmp_path):
    server.files = {
        f"{part}-{kind}-ubyte.gz": gzip.compress(idx(np.zeros(shape)))
        for part in ("train", "t10k")
        for kind, shape in (("images-idx3", (9, 28, 28)), ("labels-idx1", (9,)))
    }
    program = f"""
from minigrad.vision.datasets import MNIST
MNIST.mirrors = ({server.url!r},)
MNIST.checksums = {tuple(map(md5, server.files.values()))!r}
print(len(MNIST({str(tmp_path)!r}, download=True)))
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0] for process in started] == [b"9\n"] * 2
    assert not list(tmp_path.rglob("*.part"))


def test_mnist_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "mirrors", ("http://127.0.0.1:9/",))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz; put it into .*raw, or try"):
        datasets.MNIST(tmp_path / "data", download=True)
    assert not (tmp_path / "data").exists()


def test_without_a_network_the_sentence_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"put it into .* or try again when there is a network"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_stay_in_their_folder(tmp_path, kind):
    inside, outside = tmp_path / f"inside.{kind}", tmp_path / f"outside.{kind}"
    for path, name in ((inside, "a/b"), (outside, "../b")):
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr(name, "text")
        else:
            with tarfile.open(path, "w:gz") as tar:
                entry = tarfile.TarInfo(name)
                entry.size = 4
                tar.addfile(entry, io.BytesIO(b"text"))
    unpack(inside, tmp_path / "folder")
    assert (tmp_path / "folder" / "a" / "b").read_text() == "text"
    with pytest.raises(DataError, match="cannot unpack"):
        unpack(outside, tmp_path / "folder")
    assert not (tmp_path / "b").exists()
    (tmp_path / "damaged").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot unpack"):
        unpack(tmp_path / "damaged", tmp_path / "folder")


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


def test_mnist_from_an_empty_folder(server, tmp_path, monkeypatch):
    draws = np.random.default_rng(0)
    files = {}
    for part, count in (("train", 20), ("t10k", 5)):
        files[f"{part}-images-idx3-ubyte.gz"] = draws.integers(0, 256, (count, 28, 28))
        files[f"{part}-labels-idx1-ubyte.gz"] = draws.integers(0, 10, count)
    server.files = {name: gzip.compress(idx(array)) for name, array in files.items()}
    server.cut = ["t10k-images-idx3-ubyte.gz"]
    monkeypatch.setattr(
        datasets.MNIST, "checksums", tuple(md5(content) for content in server.files.values())
    )
    with pytest.raises(RuntimeError, match="You can use download=True to download it"):
        datasets.MNIST(tmp_path)
    monkeypatch.setattr(datasets.MNIST, "mirrors", (server.url,))
    with pytest.raises(DataError, match="the connection ended"):
        datasets.MNIST(tmp_path, download=True)
    data = datasets.MNIST(tmp_path, train=False, download=True)
    assert len(data) == 5
    images = files["t10k-images-idx3-ubyte.gz"]
    assert np.array_equal(data.data.numpy(), images)
    picture, label = data[3]
    assert np.array_equal(np.asarray(picture), images[3])
    assert label == files["t10k-labels-idx1-ubyte.gz"][3]
    count = len(server.requests)
    datasets.MNIST(tmp_path, download=True)
    assert len(server.requests) == count
