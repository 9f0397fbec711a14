"""Data sets of any items, samplers, and worker processes."""

import errno
import functools
import gc
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest
import torch
import torch.utils.data as theirs
from minigrad.utils.data.sampler import SubsetRandomSampler

import minigrad as mg
import minigrad.utils.data as ours
from minigrad.data import ArrayDataset, Normalize, workers


class Squares(ours.Dataset):
    """Item i is (an image-like tensor of i², its number, {"name": …})."""

    def __init__(self, count=20):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if i >= self.count:
            raise IndexError(i)
        picture = mg.full((4, 5, 3), float(i * i)).permute(2, 0, 1)
        return picture, i, {"name": f"item {i}"}


class Counted(ours.IterableDataset):
    """Numbers that workers share among themselves."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        info = ours.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.count, step))


def numbers(loader):
    return [batch[1].tolist() for batch in loader]


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    made = []

    class Recorded(SharedMemory):
        def __init__(self, name=None, create=False, size=0):
            super().__init__(name, create, size)
            if create:
                made.append(self.name)

    monkeypatch.setattr(workers, "SharedMemory", Recorded)
    yield
    limit = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < limit:
        time.sleep(0.01)
    assert not multiprocessing.active_children()
    for name in made:
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)


CONTEXTS = [("spawn", True)] + [("fork", True), ("fork", False)] * hasattr(os, "fork")


@pytest.mark.parametrize(("context", "persistent"), CONTEXTS)
def test_workers_give_what_the_process_itself_gives(context, persistent):
    options = {"batch_size": 3, "shuffle": True, "seed": 5}
    alone = ours.DataLoader(Squares(), **options)
    helped = ours.DataLoader(
        Squares(), **options, num_workers=2, multiprocessing_context=context,
        persistent_workers=persistent,
    )  # fmt: skip
    for _ in range(3):
        for mine, other in zip(alone, helped, strict=True):
            assert np.array_equal(mine[0].numpy(), other[0].numpy())
            assert mine[0].array.strides == other[0].array.strides
            assert mine[1].tolist() == other[1].tolist()
            assert mine[2] == other[2]
            other[0].add_(1)  # memory of its own
    del helped


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("size", "drop_last"), [(4, False), (4, True), (None, False)])
def test_streams(workers, size, drop_last):
    options = {"batch_size": size, "num_workers": workers, "drop_last": drop_last}
    got = [np.asarray(b).tolist() for b in ours.DataLoader(Counted(22), **options)]
    expected = [np.asarray(b).tolist() for b in theirs.DataLoader(_TorchCounted(22), **options)]
    assert got == expected


@pytest.mark.parametrize("size", [2, None])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_collate_fn_that_raises_stop_iteration_does_not_end_a_stream(size, workers):
    def collate(items):
        raise StopIteration

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(ours.DataLoader(Counted(3), size, collate_fn=collate, num_workers=workers))


class _TorchCounted(theirs.IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        info = theirs.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.count, step))


class Failing(Squares):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def __getitem__(self, i):
        if i == 7:
            raise self.error
        return super().__getitem__(i)


class UnpicklableError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (KeyError("lost"), KeyError, "lost"),
        (StopIteration(), RuntimeError, "raised StopIteration"),
        (UnpicklableError("a", "b"), RuntimeError, "UnpicklableError: a b"),
        (EOFError("no data left"), EOFError, "no data left"),
        (ConnectionResetError("gone"), ConnectionResetError, "gone"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_errors_arrive_with_their_traceback(error, kind, message, workers):
    if workers == 0 and isinstance(error, UnpicklableError):
        kind, message = UnpicklableError, "a b"
    batches = iter(ours.DataLoader(Failing(error), 3, num_workers=workers))
    assert next(batches)[1].tolist() == [0, 1, 2]
    assert next(batches)[1].tolist() == [3, 4, 5]
    with pytest.raises(kind, match=message) as caught:
        next(batches)
    if workers:
        assert "in worker 0" in str(caught.value.__cause__)
        assert "__getitem__" in str(caught.value.__cause__)
        assert list(batches) == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_worker_that_leaves_does_not_take_the_program_along(error):
    with pytest.raises(RuntimeError, match=f"{type(error).__name__}.* ended worker 0"):
        list(ours.DataLoader(Failing(error), 3, num_workers=2))


class Killing(Squares):
    def __getitem__(self, i):
        if i == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(i)


def test_a_killed_worker_is_an_error():
    loader = ours.DataLoader(Killing(), 2, num_workers=2)
    with pytest.raises(RuntimeError, match="worker 1 was killed by signal 9"):
        list(loader)


@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_killed_in_an_abandoned_epoch_is_an_error_of_the_next(count):
    """And not an epoch without batches; the one after it has new workers."""
    loader = ours.DataLoader(Squares(), 2, num_workers=2, persistent_workers=True)
    next(iter(loader))
    for process in multiprocessing.active_children()[:count]:
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="was killed by signal 9"):
        list(loader)
    assert len(list(loader)) == 10
    del loader


def test_workers_heed_no_handlers_of_the_script():
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        for _ in ours.DataLoader(Slow(), 2, num_workers=2):
            children = multiprocessing.active_children()
            break
        assert {process.exitcode for process in children} <= {0, -signal.SIGTERM}
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_leaves_workers_to_its_parent():
    loader = ours.DataLoader(Squares(), 2, num_workers=2, persistent_workers=True)
    batches = iter(loader)
    next(batches)
    child = os.fork()
    if child == 0:
        del loader, batches
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(batches)) == 9
    del loader, batches


class Nested(Squares):
    def __getitem__(self, i):
        return len(list(ours.DataLoader(Squares(4), num_workers=self.workers)))


def test_a_loader_in_a_worker():
    data = Nested(2)
    data.workers = 0
    assert [batch.tolist() for batch in ours.DataLoader(data, 2, num_workers=1)] == [[4, 4]]
    data.workers = 1
    with pytest.raises(RuntimeError, match="give the loader in it num_workers=0"):
        list(ours.DataLoader(data, 2, num_workers=1))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not list them")
@pytest.mark.parametrize("persistent", [False, True])
def test_epochs_leave_no_files_open(persistent):
    loader = ours.DataLoader(Ragged(30), 1, num_workers=1, persistent_workers=persistent)
    counts = []
    for _ in range(5):
        assert len(list(loader)) == 30
        gc.collect()
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1] == counts[-1]
    del loader


class Ragged(Squares):
    """Items of 0 to 2¹⁵ numbers, and of many arrays."""

    def __getitem__(self, i):
        return np.zeros(0 if i % 5 == 0 else int(1.42**i)), [np.zeros(1)] * i


class Slow(Squares):
    def __getitem__(self, i):
        if i >= 4:
            time.sleep(60)
        return super().__getitem__(i)


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"prefetch": 2}], ids=str)
def test_leaving_the_loop_waits_for_nobody(options):
    begin = time.monotonic()
    for _ in ours.DataLoader(Slow(), 2, **options):
        break
    assert time.monotonic() - begin < 30


def test_timeout():
    with pytest.raises(RuntimeError, match=r"no batch came within timeout=0\.2 seconds"):
        list(ours.DataLoader(Slow(), 2, num_workers=1, timeout=0.2))


def test_an_abandoned_epoch_of_persistent_workers():
    loader = ours.DataLoader(Squares(), 2, num_workers=2, persistent_workers=True)
    assert next(iter(loader))[1].tolist() == [0, 1]
    assert functools.reduce(operator.iadd, numbers(loader), []) == list(range(20))
    del loader


def test_persistent_workers_serve_one_pass_at_a_time():
    loader = ours.DataLoader(Squares(), 2, num_workers=2, persistent_workers=True)
    first = iter(loader)
    next(first)
    second = iter(loader)
    assert next(second)[1].tolist() == [0, 1]
    with pytest.raises(RuntimeError, match="serve one pass at a time"):
        next(first)
    assert [batch[1].tolist()[0] for batch in second] == list(range(2, 20, 2))


def test_no_shared_memory_is_an_error(monkeypatch):
    def full(file, offset, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RuntimeError, match=r"no shared memory is left .*--shm-size"):
        list(ours.DataLoader(Squares(), 2, num_workers=1))


def test_a_loader_has_the_samplers_of_its_order():
    plain = ours.DataLoader(range(5), 2)
    assert isinstance(plain.sampler, ours.SequentialSampler)
    assert list(plain.batch_sampler) == [[0, 1], [2, 3], [4]]
    mixed = ours.DataLoader(range(5), 2, shuffle=True, drop_last=True)
    assert isinstance(mixed.sampler, ours.RandomSampler)
    assert (len(mixed.sampler), len(mixed.batch_sampler)) == (5, 2)
    for _ in range(2):
        expected = list(mixed.batch_sampler)
        assert [batch.tolist() for batch in mixed] == expected
    given = ours.SubsetRandomSampler([3, 1])
    assert ours.DataLoader(range(5), sampler=given).sampler is given
    assert ours.DataLoader(Counted(4)).sampler is None


def test_annotations_say_of_what():
    assert ours.DataLoader[mg.Tensor].__origin__ is ours.DataLoader


def test_batches_as_they_come():
    loader = ours.DataLoader(Squares(), 2, num_workers=2, in_order=False)
    assert sorted(functools.reduce(operator.iadd, numbers(loader), [])) == list(range(20))


class Random(Squares):
    def __getitem__(self, i):
        info = ours.get_worker_info()
        return np.random.rand(), mg.rand(()).item(), info.id, info.seed


def test_every_worker_has_a_seed_of_its_own():
    loader = ours.DataLoader(Random(8), 1, num_workers=2, seed=3)
    first, second = ([tuple(t.item() for t in batch) for batch in loader] for _ in range(2))
    assert [item[2] for item in first] == [0, 1] * 4
    assert len({item[0] for item in first + second}) == 16  # other numbers every epoch
    assert len({item[1] for item in first + second}) == 16
    assert len({item[3] for item in first}) == 2
    again = ours.DataLoader(Random(8), 1, num_workers=2, seed=3)
    assert [tuple(t.item() for t in batch) for batch in again] == first


def mark(number):
    os.environ["MARK"] = str(number)


class Marked(Squares):
    def __getitem__(self, i):
        return int(os.environ.get("MARK", -1))


def test_worker_init_fn():
    loader = ours.DataLoader(Marked(6), 1, num_workers=2, worker_init_fn=mark)
    assert [batch.item() for batch in loader] == [0, 1] * 3


class Unsized:
    """A sampler without a length."""

    def __iter__(self):
        return iter(range(3, 15))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "make",
    [
        lambda w: ours.DataLoader(Squares(), 3, shuffle=True, num_workers=w, seed=1),
        lambda w: ours.DataLoader(
            Squares(), 3, num_workers=w, sampler=ours.RandomSampler(Squares(), True, 17), seed=1
        ),
        lambda w: ours.DataLoader(
            Squares(), num_workers=w,
            batch_sampler=ours.BatchSampler(SubsetRandomSampler(range(3, 20)), 4, True),
        ),
        lambda w: ours.DataLoader(Squares(), 3, num_workers=w, sampler=Unsized()),
        lambda w: ours.DataLoader(
            Squares(), num_workers=w, batch_sampler=ours.BatchSampler(Unsized(), 4, False)
        ),
    ],
    ids=["shuffle", "sampler", "batch_sampler", "unsized sampler", "unsized batch_sampler"],
)  # fmt: skip
def test_a_loader_goes_on_in_the_middle_of_an_epoch(make, workers):
    mg.manual_seed(4)
    loader = make(workers)
    list(loader)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    rest = [batch[1].tolist() for batch in batches] + numbers(loader)
    del batches
    mg.manual_seed(4)
    other = make(workers)
    other.load_state_dict(state)
    assert numbers(other) + numbers(other) == rest


def gone(group):
    """Whether all processes of a group end soon."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_ctrl_c_leaves_nothing():
    program = textwrap.dedent(
        """
        import time
        import minigrad.utils.data as data

        class Slow(data.Dataset):
            def __len__(self):
                return 1000

            def __getitem__(self, i):
                time.sleep(0.05)
                return i

        for batch in data.DataLoader(Slow(), 2, num_workers=2):
            print(batch.tolist(), flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as the terminal sends it, to all of them
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert "leaked" not in errors
    assert gone(process.pid)


@pytest.mark.parametrize("doing", ["lock.acquire(); lock.acquire()", "while True: pass"])
def test_workers_end_when_their_parent_is_killed(doing):
    """Also in the middle of a sample that is never done."""
    program = textwrap.dedent(
        f"""
        import multiprocessing
        import minigrad.utils.data as data

        lock = multiprocessing.Lock()

        class Endless(data.Dataset):
            def __len__(self):
                return 1000

            def __getitem__(self, i):
                if i > 3:
                    {doing}
                return i

        loaders = [data.DataLoader(Endless(), 2, num_workers=2) for _ in range(2)]
        passes = [iter(loader) for loader in loaders]
        print([next(batches).tolist() for batches in passes], flush=True)
        next(passes[0]), next(passes[0])
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "[[0, 1], [0, 1]]\n"
    process.kill()
    process.communicate(timeout=60)  # all who could write there have ended
    assert gone(process.pid)


# Samplers -----------------------------------------------------------------------------------


def test_samplers_draw_what_they_say():
    mg.manual_seed(0)
    data = Squares(50)
    assert list(ours.SequentialSampler(data)) == list(range(50))
    for sampler, pool in [
        (ours.RandomSampler(data), range(50)),
        (ours.SubsetRandomSampler([3, 4, 9]), [3, 4, 9]),
        (ours.RandomSampler(data, num_samples=7), range(50)),
        (ours.RandomSampler(data, num_samples=120), range(50)),
        (ours.RandomSampler(data, replacement=True), range(50)),
        (ours.WeightedRandomSampler([0, 1, 1], 2, replacement=False), [1, 2]),
    ]:
        first, second = list(sampler), list(sampler)
        assert len(first) == len(second) == len(sampler)
        assert set(first) <= set(pool)
        if len(sampler) > 2:
            assert first != second
    assert sorted(ours.RandomSampler(data)) == list(range(50))
    assert len(set(ours.RandomSampler(data, replacement=True))) < 50
    assert set(Counter(ours.RandomSampler(data, num_samples=100)).values()) == {2}
    drawn = Counter(ours.WeightedRandomSampler(mg.tensor([1.0, 0.0, 3.0]), 4000))
    assert drawn[1] == 0
    assert abs(drawn[2] - 3000) < 5 * (4000 * 0.75 * 0.25) ** 0.5
    mg.manual_seed(1)
    a, b = (list(ours.RandomSampler(data, generator=mg.Generator(3))) for _ in range(2))
    assert a == b


@pytest.mark.parametrize("drop_last", [False, True])
def test_batch_sampler(drop_last):
    arguments = range(10), 4, drop_last
    assert list(ours.BatchSampler(*arguments)) == list(theirs.BatchSampler(*arguments))
    assert len(ours.BatchSampler(*arguments)) == len(theirs.BatchSampler(*arguments))


# Data sets ----------------------------------------------------------------------------------


def both(build):
    """The same data set in both libraries, as lists of items."""
    return [
        [build(module, tensor)] for module, tensor in ((ours, mg.tensor), (theirs, torch.tensor))
    ]


@pytest.mark.parametrize(
    "build",
    [
        lambda m, t: m.TensorDataset(t([[1, 2], [3, 4]]), t([5, 6])),
        lambda m, t: m.ConcatDataset([m.TensorDataset(t([1, 2])), m.TensorDataset(t([3]))]),
        lambda m, t: m.TensorDataset(t([1, 2])) + m.TensorDataset(t([3])),
        lambda m, t: m.Subset(m.TensorDataset(t([1, 2, 3])), [2, 0]),
        lambda m, t: m.StackDataset(m.TensorDataset(t([1, 2])), [7, 8]),
        lambda m, t: m.StackDataset(x=[1, 2], y=[7, 8]),
    ],
)
def test_data_sets_are_torchs(build):
    def plain(value):
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, tuple):
            return tuple(map(plain, value))
        return value.tolist() if hasattr(value, "tolist") else value

    ((mine,), (other,)) = both(build)
    assert len(mine) == len(other)
    for i in range(-len(other) if not isinstance(other, theirs.Subset) else 0, len(other)):
        assert plain(mine[i]) == plain(other[i])
    chained = ours.ChainDataset([Counted(2), Counted(3)])
    assert list(chained) == [0, 1, 0, 1, 2]


def test_a_subset_of_images_is_batched_as_images():
    pixels = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
    data = ArrayDataset(pixels, np.arange(6))
    part = ours.Subset(ours.Subset(data, [5, 1, 3]), [2, 0])
    ((images, labels),) = ours.DataLoader(part, 2, transform=Normalize(0.0, 1.0), num_workers=2)
    assert labels.tolist() == [3, 5]
    expected = pixels[[3, 5]].transpose(0, 3, 1, 2) / np.float32(255)
    assert np.allclose(images.numpy(), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sampler": [1], "shuffle": True}, ValueError, "a sampler gives the order"),
        ({"batch_sampler": [[1]], "batch_size": 2}, ValueError, "whole batches"),
        ({"batch_size": None, "drop_last": True}, ValueError, "no batch to drop"),
        ({"prefetch_factor": 2}, ValueError, "num_workers is 0"),
        ({"persistent_workers": True}, ValueError, "num_workers is 0"),
        ({"num_workers": -1}, ValueError, "num_workers must be at least 0"),
        ({"num_workers": 1, "timeout": -1}, ValueError, "timeout"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other(options, error, message):
    with pytest.raises(error, match=message):
        ours.DataLoader(Squares(), **options)
    with pytest.raises(error):
        theirs.DataLoader([1, 2], **options)


def test_streams_have_no_order_to_choose():
    for options in ({"shuffle": True}, {"sampler": [1]}):
        with pytest.raises(ValueError, match="its own order"):
            ours.DataLoader(Counted(3), **options)
