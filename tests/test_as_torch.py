"""Scripts for torch with minigrad in its place: what they find, and what they are told."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import torchvision.utils

import minigrad as mg
from minigrad import as_torch
from minigrad.vision import utils


def run(tmp_path, text, *arguments, code=0):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "minigrad.as_torch", *arguments, str(script)]
    command += ["--flag", "value"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_the_constructor_makes_tensors_of_the_default_dtype(tmp_path):
    """In minigrad itself arrays keep their dtype, as many of its users' programs expect."""
    out, _ = run(
        tmp_path,
        """
        import numpy as np, torch
        from torch.utils.data import DataLoader, TensorDataset
        doubles, integers = np.ones((4, 3)), np.arange(4)
        data = TensorDataset(torch.Tensor(doubles), torch.Tensor(integers))
        for x, y in DataLoader(data, 2):
            assert x.dtype == y.dtype == torch.nn.Linear(3, 1)(x).dtype == torch.float32
        doubles[:] = 2
        assert data.tensors[0].sum() == 12
        assert torch.from_numpy(doubles).dtype == torch.tensor(doubles).dtype == torch.float64
        torch.set_default_dtype(torch.float64)
        assert torch.Tensor(integers).dtype == torch.float64
        print("done")
        """,
    )
    assert out == "done\n"


def test_imports_in_every_form(tmp_path):
    (tmp_path / "beside.py").write_text("import torch.nn.functional as F\nvalue = F.relu\n")
    out, err = run(
        tmp_path,
        """
        import sys
        import torch, torchvision
        import torch.nn as nn
        import torch.nn.functional
        from torch import optim, Tensor
        from torch.utils.data import DataLoader
        from torch.optim.lr_scheduler import StepLR
        from torch.autograd import Variable
        from torch.autograd.function import Function, once_differentiable
        from torch.autograd.variable import Variable as same_variable
        from torch.nn import *
        import torchvision.transforms as T
        from torchvision.ops import nms
        from torchvision.datasets.folder import ImageFolder, default_loader
        from torchvision.datasets.mnist import MNIST
        from torchvision.transforms.transforms import Compose
        from torch.utils.data._utils.collate import default_collate
        from torchvision.transforms import v2, functional as TF
        from torch.jit.annotations import List, Optional
        from torch.nn.utils.clip_grad import clip_grad_norm_
        from torch.nn.utils.fusion import fuse_conv_bn_eval
        from torch.optim.adamw import AdamW
        from torch.optim.rmsprop import RMSprop
        from torch.optim.optimizer import Optimizer, ParamsT, required
        from torch.amp.grad_scaler import GradScaler
        from torch.autograd.function import Function, once_differentiable
        import torch.cuda.random, torch.random
        from torch.nn.attention import SDPBackend, sdpa_kernel
        import beside
        import minigrad

        assert __name__ == "__main__" and sys.argv[1:] == ["--flag", "value"]
        assert nn.Linear is minigrad.nn.Linear is Linear
        assert torch.nn.functional.relu is beside.value is minigrad.nn.functional.relu
        assert isinstance(torch.ones(2), torch.Tensor) and torch.Tensor is minigrad.Tensor
        torch.backends.cudnn.benchmark = True
        assert minigrad.backends.cudnn.benchmark is True
        assert torch.__version__.split(".") >= ["2"] and torch.__name__ == "torch"
        assert torch.optim.lr_scheduler.StepLR is StepLR
        assert "relu" in dir(torch)
        assert torchvision.models.__dict__["resnet18"] is minigrad.vision.models.resnet18
        assert {"SGD", "Adam"} <= vars(optim).keys()
        nn.Linear, linear = nn.Conv2d, nn.Linear
        assert nn.Linear is minigrad.nn.Linear is nn.Conv2d
        nn.Linear = linear
        torch.random.manual_seed(3)
        torch.cuda.random.manual_seed(3)
        with torch.random.fork_rng():
            drawn = torch.rand(3).tolist()
        assert torch.rand(3).tolist() == drawn
        assert torch.get_autocast_dtype("cpu") == torch.float32
        assert torch.amp.custom_fwd(len) is torch.amp.custom_bwd(device_type="cuda")(len) is len
        numbers = torch.ones(2)
        assert numbers.real is numbers.conj() is numbers.resolve_conj() is numbers
        assert not torch.is_autocast_enabled() and torch.float32 != torch.complex64
        assert not torch.xpu.is_available() and not torch.mtia.is_available()
        assert not isinstance(torch.ones(2), torch.cuda.FloatTensor)
        assert once_differentiable(len) is len and same_variable is Variable
        from torch.hub import tqdm
        assert list(tqdm([1, 2], disable=True)) == [1, 2]
        assert torch.jit.annotate(List[int], [1]) == [1]
        assert issubclass(torch.jit.TracerWarning, Warning)
        assert torch.ones(1).dtype not in (torch.complex64, torch.complex128)
        print("done")
        """,
    )
    assert out == "done\n"
    assert "lacks" not in err


def test_a_script_keeps_weights_as_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    out, err = run(
        tmp_path,
        """
        import torch
        from safetensors.torch import load_file, save_file

        net = torch.nn.Linear(3, 2)
        save_file(net.state_dict(), "net.safetensors", metadata={"format": "pt"})
        loaded = load_file("net.safetensors", device="cpu")
        print(torch.equal(loaded["weight"], net.weight), net.load_state_dict(loaded))
        """,
    )
    assert out == "True <All keys matched successfully>\n"
    assert "lacks" not in err


def test_what_is_missing_is_told_with_its_place(tmp_path):
    text = """
        import torch
        if hasattr(torch, "hamming_distance"):
            print("unlikely")
        try:
            import torch.quantum
        except ImportError as error:
            print(error)
        torch.nn.functional.conv5d(1)
        """
    out, err = run(tmp_path, text, code=1)
    assert out == "minigrad has no torch.quantum\n"
    assert "AttributeError: minigrad has no torch.nn.functional.conv5d" in err
    told = err[err.index("minigrad lacks") :]
    script = tmp_path / "script.py"
    assert f"torch.hamming_distance  ({script}:3)" in told
    assert f"torch.quantum  ({script}:6)" in told
    assert f"torch.nn.functional.conv5d  ({script}:9)" in told

    out, _ = run(tmp_path, text, "--check", code=1)
    assert f"torch.nn.functional.conv5d  ({script}:9)" in out
    assert f"torch.quantum  ({script}:6)" in out


def test_check_runs_nothing_and_follows_files_beside(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from .inner import thing\n")
    (tmp_path / "package" / "inner.py").write_text("import torch as t\nthing = t.no_such_thing\n")
    out, _ = run(tmp_path, "import package, torch\nraise SystemExit(7)\n", "--check", code=1)
    assert f"torch.no_such_thing  ({tmp_path / 'package' / 'inner.py'}:2)" in out
    out, _ = run(tmp_path, "import torch\nx = torch.nn.Linear\nraise SystemExit(7)\n", "--check")
    assert out == "minigrad has all that was asked for\n"


def test_errors_of_the_script_are_its_own(tmp_path):
    _, err = run(tmp_path, "import no_such_module\n", code=1)
    assert "No module named 'no_such_module'" in err
    run(tmp_path, "raise SystemExit(3)\n", code=3)


def test_processes_that_a_script_spawns(tmp_path):
    out, _ = run(
        tmp_path,
        """
        import torch
        from torch.utils.data import DataLoader, Dataset

        class Squares(Dataset):
            def __len__(self):
                return 4

            def __getitem__(self, i):
                assert "minigrad" in type(torch.ones(1)).__module__
                return torch.tensor(i) ** 2

        if __name__ == "__main__":
            loader = DataLoader(Squares(), 2, num_workers=1, multiprocessing_context="spawn")
            print([batch.tolist() for batch in loader])
        """,
    )
    assert out == "[[0, 1], [4, 9]]\n"


def test_a_script_writes_event_files(tmp_path):
    pytest.importorskip("tensorboardX")
    out, err = run(
        tmp_path,
        """
        import torch
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.writer import SummaryWriter as same

        assert same is SummaryWriter
        net = torch.nn.Linear(3, 2)
        x = torch.rand(4, 3, 8, 8)
        with SummaryWriter(log_dir="events") as writer:
            writer.add_scalar("loss", net(torch.ones(1, 3)).sum(), 0)
            writer.add_scalars("both", {"train": torch.tensor(1.0), "test": 2.0}, 0)
            for name, parameter in net.named_parameters():
                writer.add_histogram(name, parameter, 0)
            writer.add_image("image", x[0], 0)
            writer.add_images("images", x, global_step=0)
            writer.add_hparams({"rate": 0.1}, {"accuracy": torch.tensor(0.5)})
            writer.add_pr_curve("curve", torch.tensor([0, 1, 1]), torch.rand(3))
            writer.add_embedding(torch.rand(5, 3), metadata=list("abcde"))
            try:
                writer.add_graph(net, x)
            except RuntimeError as error:
                print(error)
        """,
    )
    assert out == "add_graph: minigrad traces no graph; print(model) tells its layers\n"
    assert "lacks" not in err
    (events,) = (tmp_path / "events").glob("events.*")
    content = events.read_bytes()
    assert all(tag in content for tag in (b"loss", b"weight", b"image", b"images", b"curve"))


def test_it_does_not_mix_with_torch():
    with pytest.raises(RuntimeError, match="torch and torchvision was imported before"):
        as_torch.install()


@pytest.mark.parametrize(
    "options",
    [{}, {"nrow": 3, "padding": 1, "pad_value": 0.5}, {"normalize": True},
     {"normalize": True, "scale_each": True}, {"normalize": True, "value_range": (-1.0, 1.0)}],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (4, 1, 4, 6), (1, 3, 4, 6), (3, 4, 6), (4, 6)])
def test_make_grid(options, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = torchvision.utils.make_grid(torch.from_numpy(x.copy()), **options).numpy()
    assert np.allclose(utils.make_grid(mg.tensor(x), **options).numpy(), expected, atol=1e-6)
    if len(shape) == 4:
        images = [mg.tensor(image) for image in x]
        assert np.allclose(utils.make_grid(images, **options).numpy(), expected, atol=1e-6)


def test_save_image(tmp_path):
    x = np.random.default_rng(0).random((5, 3, 4, 6)).astype(np.float32)
    torchvision.utils.save_image(torch.from_numpy(x.copy()), tmp_path / "theirs.png", nrow=2)
    utils.save_image(mg.tensor(x), tmp_path / "ours.png", nrow=2)
    assert (tmp_path / "ours.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()
