"""Runs an unmodified script, with minigrad in place of torch and torchvision.

    python -m minigrad.as_torch train.py --epochs 3
    python -m minigrad.as_torch --check train.py     # runs nothing, lists what minigrad lacks

While the script runs, `import torch` and `import torchvision` give minigrad's modules, whether
torch is installed or not, in processes that it spawns, too; nothing else in the process changes,
and torch itself is not touched. In the end it tells what was asked for and is missing, with file
and line. In a program of one's own, `as_torch.install()` does the same from that line on.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.abc
import importlib.util
import runpy
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from multiprocessing import spawn
from pathlib import Path
from types import ModuleType
from typing import Any

from .engine import Tensor

# The longest name that fits decides; what follows it stays.
_PLACES = {
    "torch": "minigrad",
    "torch.jit.annotations": "typing",
    "torch.multiprocessing": "multiprocessing",
    # Devices that are never here.
    "torch.mtia": "minigrad.backends.mps",
    "torch.xpu": "minigrad.backends.mps",
    "torch.utils.tensorboard.writer": "minigrad.utils.tensorboard",
    "torchvision": "minigrad.vision",
    "torchvision.ops": "minigrad.vision",
    "torchvision.ops._utils": "minigrad.vision._utils",
    "torchvision.datasets.utils": "minigrad.vision.downloads",
    "torchvision.io.image": "minigrad.vision.io",
    "torch.autograd.function": "minigrad.autograd",
    "torch.autograd.variable": "minigrad.autograd",
    "torch.cuda.random": "minigrad.random",
    "safetensors.torch": "minigrad.serialization",  # that of the package asks torch for its insides
    # The files in which they have their classes.
    **{f"torch.amp.{file}": "minigrad.amp" for file in ("autocast_mode", "grad_scaler")},
    **{
        f"torch.nn.utils.{file}": "minigrad.nn.utils"
        for file in ("clip_grad", "convert_parameters", "fusion", "init")
    },
    "torch.optim.adamw": "minigrad.optim.adam",
    **{
        f"torch.optim.{file}": "minigrad.optim.formulas"
        for file in ("adadelta", "adagrad", "adamax", "asgd", "nadam", "radam", "rmsprop", "rprop")
    },
    "torch.utils.data._utils": "minigrad.data",
    **{
        f"torchvision.datasets.{file}": "minigrad.vision.datasets"
        for file in ("cifar", "fakedata", "folder", "mnist", "svhn", "vision")
    },
    "torchvision.transforms.transforms": "minigrad.vision.transforms.classes",
    **{
        f"torchvision.models.{file}": f"minigrad.vision.models.{place}"
        for place, files in (
            ("branches", ("densenet", "googlenet")),
            ("classic", ("alexnet", "squeezenet", "vgg")),
            ("mobilenet", ("efficientnet", "mobilenetv2", "mobilenetv3")),
        )
        for file in files
    },
}
_VERSIONS = {"torch": "2.14.0", "torchvision": "0.29.0"}  # whose names these are

Missing = dict[str, list[str]]
_missing: Missing = {}


def _resolve(name: str) -> str:
    """minigrad's name of a module of torch."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (place := _PLACES.get(".".join(parts[:end]))) is not None:
            return ".".join([place, *parts[end:]])
    raise ModuleNotFoundError(f"{name} is no module of torch", name=name)


def _import(name: str) -> Any:
    """The module, class or object that stands for a module of torch; ModuleNotFoundError."""
    place = _resolve(name)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # something else is not installed
    above, _, last = place.rpartition(".")
    try:
        return getattr(importlib.import_module(above), last)
    except (ModuleNotFoundError, AttributeError):
        raise ModuleNotFoundError(f"minigrad has no {name}", name=name) from None


def _note(name: str) -> None:
    """Keep that a name is missing, and where it was asked for."""
    frame = sys._getframe(1)
    inside = __file__, "<frozen importlib._bootstrap>", importlib.__file__
    while frame.f_back is not None and frame.f_code.co_filename in inside:
        frame = frame.f_back
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    places = _missing.setdefault(name, [])
    if place not in places:
        places.append(place)


class _Alias(ModuleType):
    """A module of torch: what minigrad has in its place, by torch's name."""

    def __init__(self, name: str, target: Any) -> None:
        super().__init__(name, getattr(target, "__doc__", None))
        self.__dict__["_target"] = target
        self.__dict__["__path__"] = []  # its submodules come from the finder
        if not hasattr(target, "__all__"):
            self.__dict__["__all__"] = [each for each in dir(target) if not each.startswith("_")]
        if isinstance(target, ModuleType):  # for models.__dict__["resnet18"]
            public = {key: value for key, value in vars(target).items() if not key.startswith("_")}
            self.__dict__.update({key: value for key, value in public.items() if callable(value)})
        if name in _VERSIONS:
            self.__dict__["__version__"] = _VERSIONS[name]

    def __getattr__(self, name: str) -> Any:
        try:
            value = getattr(self._target, name)
        except AttributeError:
            full = f"{self.__name__}.{name}"
            if name.startswith("__"):
                raise AttributeError(name) from None
            try:  # a submodule that nobody has imported
                return importlib.import_module(full)
            except ModuleNotFoundError:
                _note(full)
                raise AttributeError(f"minigrad has no {full}") from None
        if isinstance(value, ModuleType) and value.__name__.startswith("minigrad."):
            return importlib.import_module(f"{self.__name__}.{name}")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__") or isinstance(value, _Alias):
            super().__setattr__(name, value)  # what the import system notes
        else:
            self.__dict__.pop(name, None)
            setattr(self._target, name, value)

    def __dir__(self) -> list[str]:
        return dir(self._target)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in _VERSIONS and fullname not in _PLACES:
            return None
        try:
            _import(fullname)
        except ModuleNotFoundError as error:
            if error.name == fullname:
                _note(fullname)
            raise
        return importlib.util.spec_from_loader(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Alias(spec.name, _import(spec.name))

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: what it stands for has run."""


_finder = _Finder()


class _Installed:
    """Installs, where it is unpickled."""

    def __reduce__(self) -> Any:
        return install, ()


_prepare = spawn.get_preparation_data


def _prepared(name: str) -> dict[str, Any]:
    """What a process that is spawned reads before it imports the script, and with it torch."""
    return {"as_torch": _Installed(), **_prepare(name)}


def install() -> None:
    """From now on torch and torchvision are minigrad. Raises RuntimeError if torch was imported."""
    if _finder in sys.meta_path:
        return
    there = [name for name in _VERSIONS if name in sys.modules]
    if there:
        raise RuntimeError(f"as_torch: {' and '.join(there)} was imported before")
    sys.meta_path.insert(0, _finder)
    spawn.get_preparation_data = _prepared
    Tensor.arrays_keep_dtype = False


def uninstall() -> None:
    """torch and torchvision are themselves again, for what imports them from now on."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
        spawn.get_preparation_data = _prepare
        Tensor.arrays_keep_dtype = True
    ours = [name for name in sys.modules if name.partition(".")[0] in _VERSIONS or name in _PLACES]
    for name in ours:
        del sys.modules[name]


# Reading a script without running it ------------------------------------------------------------


def check(script: Path) -> Missing:
    """What a script, and the files beside it that it imports, ask of torch and minigrad lacks: the
    name, and the places."""
    found: Missing = {}
    todo, seen = [script.resolve()], set[Path]()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        tree = ast.parse(path.read_bytes(), str(path))
        for name, line in _asked(tree):
            if not _exists(name):
                found.setdefault(name, []).append(f"{path}:{line}")
        todo += _beside(tree, path.parent)
    return found


def _beside(tree: ast.AST, folder: Path) -> Iterator[Path]:
    """The files of a folder that a file imports."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in names:
            base = folder.joinpath(*name.split(".")) if name else folder
            for file in (base.with_suffix(".py"), base / "__init__.py"):
                if name and file.is_file():
                    yield file.resolve()


def _asked(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(torch's dotted name, line) of what a file imports, and of what it takes from that."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in _VERSIONS:
                    yield alias.name, node.lineno
                    top = alias.name.partition(".")[0]
                    known[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            for alias in node.names if module.partition(".")[0] in _VERSIONS else []:
                full = module if alias.name == "*" else f"{module}.{alias.name}"
                yield full, node.lineno
                known[alias.asname or alias.name] = full
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (names := _chain(node)) and names[0] in known:
            yield ".".join([known[names[0]], *names[1:]]), node.lineno


def _chain(node: ast.expr) -> list[str]:
    """["a", "b", "c"] of a.b.c."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (names := _chain(node.value)):
        return [*names, node.attr]
    return []


def _exists(name: str) -> bool:
    """Whether minigrad has it. What a longer name takes from an object, and not from a module, is
    asked of the object."""
    parts = name.split(".")
    value: Any = None
    for end in range(len(parts), 0, -1):
        try:
            value = _import(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if part in ("__version__",):
                return True
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


# The command ----------------------------------------------------------------------------------


def report(missing: Missing) -> str:
    """A line for each name."""
    lines = [f"  {name}  ({', '.join(places[:3])})" for name, places in sorted(missing.items())]
    return "\n".join(
        ["minigrad lacks:", *lines] if lines else ["minigrad has all that was asked for"]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m minigrad.as_torch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="list what is missing; run nothing")
    parser.add_argument("-m", action="store_true", dest="module", help="script names a module")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own")
    options = parser.parse_args(argv)
    script = Path(options.script)
    if not options.module and not script.is_file():
        parser.error(f"there is no file {script}")
    if options.check:
        if options.module:
            spec = importlib.util.find_spec(options.script)
            if spec is None or spec.origin is None:
                parser.error(f"there is no module {options.script}")
            script = Path(spec.origin)
        missing = check(script)
        print(report(missing))
        return int(bool(missing))
    install()
    sys.argv = [options.script, *options.arguments]
    try:
        if options.module:
            sys.path.insert(0, "")
            runpy.run_module(options.script, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(script.resolve().parent))
            runpy.run_path(options.script, run_name="__main__")
    finally:
        if _missing:
            print(report(_missing), file=sys.stderr)
    return 0


if __name__ == "__main__":
    # The module that the finder knows is the one that others import.
    from minigrad.as_torch import main as _main

    sys.exit(_main())
