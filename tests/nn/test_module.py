"""Modules: registration, walking, state dicts, hooks, conversions, printing."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad import Tensor, nn
from minigrad.errors import CheckpointError, DTypeError, GraphError


def block(lib, tensor):
    """The same module of ours and of torch: parameters, buffers and children."""

    class Block(lib.Module):
        def __init__(self):
            super().__init__()
            self.scale = lib.Parameter(tensor([1.0, 2.0]))
            self.register_buffer("seen", tensor([0.0]))
            self.register_buffer("scratch", tensor([5.0]), persistent=False)
            self.register_parameter("absent", None)
            self.fc = lib.Linear(2, 3)
            self.norm = lib.BatchNorm2d(3)
            self.tail = lib.Sequential(lib.Conv2d(3, 4, (3, 2), bias=False), lib.ReLU())

        def forward(self, x):
            return x

    return Block()


def leaf(values):
    return Tensor(np.array(values, np.float32))


@pytest.fixture
def ours():
    return block(nn, leaf)


@pytest.fixture
def theirs():
    return block(torch.nn, torch.tensor)


def shapes(named):
    return [(name, tuple(tensor.shape)) for name, tensor in named]


# Registration and walking ---------------------------------------------------------------------


def test_names_shapes_and_order_are_torchs(ours, theirs):
    assert shapes(ours.state_dict().items()) == shapes(theirs.state_dict().items())
    assert shapes(ours.named_parameters()) == shapes(theirs.named_parameters())
    assert shapes(ours.named_buffers()) == shapes(theirs.named_buffers())
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert [n for n, _ in ours.named_children()] == [n for n, _ in theirs.named_children()]
    assert shapes(ours.named_parameters("net", recurse=False)) == [("net.scale", (2,))]


def test_repr_is_torchs(ours, theirs):
    # Normalisations say whether they have a bias; in torch since one of its later releases.
    shown = "affine=True, bias=True, track_running_stats"
    assert shown in repr(ours)
    torchs = repr(theirs).replace("affine=True, track_running_stats", shown)
    assert repr(ours) == torchs


def test_shared_parameters_and_modules_are_listed_once():
    fc = nn.Linear(2, 2)
    net = nn.Sequential(fc, nn.ReLU(), fc)
    net.alias = fc.weight
    assert [name for name, _ in net.named_parameters()] == ["alias", "0.bias"]
    assert len(list(net.parameters())) == 2
    assert len(list(net.children())) == 2
    assert sorted(net.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight", "alias"]


def test_attributes_register_replace_and_vanish(ours):
    weight = ours.fc.weight
    ours.fc.weight = replacement = nn.Parameter(leaf(np.zeros((3, 2))))
    assert ours.fc.weight is replacement
    assert weight is not replacement
    ours.fc.weight = None
    assert ours.fc.weight is None
    assert "fc.weight" not in ours.state_dict()
    ours.seen = leaf([3.0])
    assert ours.state_dict()["seen"].array[0] == 3
    ours.scratch = nn.Parameter(leaf([1.0]))  # from a buffer outside the state to a parameter
    assert "scratch" in dict(ours.named_parameters())
    assert "scratch" in ours.state_dict()
    assert "scratch" not in dict(ours.named_buffers())
    del ours.scale
    assert not hasattr(ours, "scale")
    ours.plain = leaf([1.0])
    assert "plain" not in ours.state_dict()
    assert {"fc", "seen"} <= set(dir(ours))


def test_wrong_assignments_and_names_raise(ours):
    with pytest.raises(TypeError, match=r"'scale' is a registered parameter .* got Tensor"):
        ours.scale = leaf([1.0])
    with pytest.raises(TypeError, match=r"'fc' is a registered module .* got int"):
        ours.fc = 3
    with pytest.raises(TypeError, match=r"'seen' is a registered buffer .* got list"):
        ours.seen = [1.0]
    with pytest.raises(KeyError, match="without dots"):
        ours.register_buffer("a.b", None)
    with pytest.raises(KeyError, match="has an attribute 'forward' already"):
        ours.register_buffer("forward", leaf([1.0]))
    with pytest.raises(TypeError, match="must be a Parameter or None, got Tensor"):
        ours.register_parameter("p", leaf([1.0]))
    with pytest.raises(TypeError, match="must be a Module or None, got str"):
        ours.add_module("m", "relu")
    with pytest.raises(AttributeError, match="Block has no attribute 'nothing'"):
        ours.nothing  # noqa: B018
    with pytest.raises(TypeError, match="data must be a Tensor, got ndarray"):
        nn.Parameter(np.ones(2))


def test_forgotten_super_init_is_named():
    class Early(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(1, 1)

    class Never(nn.Module):
        def __init__(self):
            self.x = 3

    with pytest.raises(AttributeError, match=r"Early.__init__ must call super"):
        Early()
    with pytest.raises(AttributeError, match=r"Never.__init__ must call super"):
        Never()(1)


def test_missing_forward_is_named():
    with pytest.raises(TypeError, match="Module must define forward"):
        nn.Module()(1)


# State dicts ----------------------------------------------------------------------------------


def test_state_dict_shares_memory_and_load_writes_in_place(ours):
    state = ours.state_dict()
    assert not any(t.requires_grad for t in state.values())
    weight, strides = ours.fc.weight, ours.fc.weight.array.strides
    memory, version = weight.array, weight._version.value
    new = {name: Tensor(np.full(t.shape, 7, t.dtype)) for name, t in state.items()}
    result = ours.load_state_dict(new)
    assert result == ([], [])
    assert ours.fc.weight is weight
    assert weight.array is memory
    assert weight.array.strides == strides
    assert weight._version.value == version + 1
    for tensor in ours.state_dict().values():
        assert (tensor.array == 7).all()
    assert state["seen"].array[0] == 7
    assert ours.scratch.array[0] == 5


def test_load_converts_dtypes_and_memory_orders(ours):
    values = np.arange(72, dtype=np.float64).reshape(4, 3, 3, 2)
    ours.load_state_dict({"tail.0.weight": Tensor(np.asfortranarray(values))}, strict=False)
    np.testing.assert_array_equal(ours.tail[0].weight.array, values)
    assert ours.tail[0].weight.dtype == np.float32


def test_load_lists_everything_that_does_not_fit_and_changes_nothing(ours):
    before = {name: t.array.copy() for name, t in ours.state_dict().items()}
    state = {name: Tensor(t.array + 1) for name, t in ours.state_dict().items()}
    del state["seen"], state["fc.bias"]
    state["extra"] = leaf([1.0])
    state["scale"] = leaf([1.0, 2.0, 3.0])
    state["norm.bias"] = [1.0, 1.0, 1.0]
    with pytest.raises(CheckpointError) as caught:
        ours.load_state_dict(state)
    message = str(caught.value)
    assert 'Missing key(s) in state_dict: "seen", "fc.bias".' in message
    assert 'Unexpected key(s) in state_dict: "extra".' in message
    assert "size mismatch for scale: must have shape (2,), got (3,)" in message
    assert "norm.bias must be a Tensor: list does not offer" in message
    with pytest.raises(CheckpointError, match="size mismatch for scale: must have shape"):
        ours.load_state_dict(state, strict=False)
    for name, tensor in ours.state_dict().items():
        np.testing.assert_array_equal(tensor.array, before[name])
    del state["scale"], state["norm.bias"]
    result = ours.load_state_dict(state, strict=False)
    assert result.missing_keys == ["scale", "seen", "fc.bias", "norm.bias"]
    assert result.unexpected_keys == ["extra"]
    with pytest.raises(TypeError, match="must be a dict, got list"):
        ours.load_state_dict([])


def test_state_dict_prefix(ours):
    assert next(iter(ours.state_dict(prefix="net."))) == "net.scale"
    assert "net.fc.weight" in ours.state_dict(prefix="net.")


def versioned(lib, tensor):
    """A module that renamed a parameter, kept more than tensors, and has a hook."""

    class Versioned(lib.Module):
        _version = 3

        def __init__(self):
            super().__init__()
            self.scale = lib.Parameter(tensor([1.0, 2.0]))
            self.norm = lib.BatchNorm2d(2)
            self.count = 0
            self.seen = []
            self.register_load_state_dict_post_hook(lambda m, keys: m.seen.append("loaded"))

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
            self.seen.append((prefix, local_metadata.get("version")))
            if prefix + "factor" in state_dict:
                state_dict[prefix + "scale"] = state_dict.pop(prefix + "factor")
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    return lib.Sequential(Versioned(), lib.ReLU())


def test_versions_extra_state_and_renamed_names_are_torchs():
    seen = []
    for lib, tensor in ((nn, leaf), (torch.nn, torch.tensor)):
        net = versioned(lib, tensor)
        net[0].count = 5
        state = net.state_dict()
        metadata = dict(state._metadata)
        names = list(state)
        state["0.factor"] = state.pop("0.scale") * 3
        net[0].count = 0
        kept = state["0.factor"]
        result = net.load_state_dict(state)
        assert net[0].scale.tolist() == [3, 6]
        plain = {k: v for k, v in state.items() if k != "0.norm.num_batches_tracked"}
        again = net.load_state_dict(plain)
        seen.append((names, metadata, net[0].seen, net[0].count, result, again, list(state)))
        assert state["0.factor"] is kept
    assert seen[0] == seen[1]


def test_a_failed_load_changes_nothing_below_an_override():
    net = versioned(nn, leaf)
    state = net.state_dict()
    state = {name: t if name.endswith("state") else t + 1 for name, t in state.items()}
    state["0.norm.weight"] = leaf([1.0])
    with pytest.raises(CheckpointError, match=r"for 0.norm.weight: must have shape \(2,\)"):
        net.load_state_dict(state)
    assert net[0].scale.tolist() == [1, 2]
    assert "loaded" not in net[0].seen


def test_state_hooks_keep_vars_and_assign():
    net = nn.Linear(2, 1)
    log = []
    net.register_state_dict_pre_hook(lambda m, prefix, keep: log.append((prefix, keep)))
    net.register_state_dict_post_hook(
        lambda m, state, prefix, _: state.pop(prefix + "bias") and None
    )
    net.register_load_state_dict_pre_hook(
        lambda m, state, prefix, *_: state.setdefault(prefix + "bias", leaf([9.0]))
    )
    state = nn.Sequential(net).state_dict(keep_vars=True)
    assert list(state) == ["0.weight"]
    assert state["0.weight"] is net.weight
    assert log == [("0.", True)]
    new = leaf([[5.0, 6.0]])
    net.load_state_dict({"weight": new}, assign=True)
    assert net.weight.array is new.array
    assert isinstance(net.weight, nn.Parameter)
    assert net.bias.tolist() == [9]
    filled = {"other": 1}
    assert net.state_dict(filled) is filled
    assert list(filled) == ["other", "weight"]
    with pytest.raises(TypeError, match=r"destination must be a dict or None, got 'net\.'"):
        net.state_dict("net.")


# Modes, gradients, conversions ----------------------------------------------------------------


def test_train_and_eval_reach_all_modules(ours):
    assert ours.eval() is ours
    assert not any(m.training for m in ours.modules())
    ours.train()
    assert all(m.training for m in ours.modules())
    with pytest.raises(ValueError, match="mode must be a bool"):
        ours.train("yes")


def test_requires_grad_and_zero_grad(ours):
    for param in ours.parameters():
        param.grad = Tensor(np.ones(param.shape, np.float32))
    held = ours.scale.grad
    ours.zero_grad(set_to_none=False)
    assert not any(p.grad.array.any() for p in ours.parameters())
    assert held.array.all(), "another holder's gradient was overwritten"
    ours.zero_grad()
    assert all(p.grad is None for p in ours.parameters())
    assert not any(p.requires_grad for p in ours.requires_grad_(False).parameters())
    assert all(p.requires_grad for p in ours.requires_grad_().parameters())


def test_apply_visits_children_first(ours):
    seen = []
    assert ours.apply(lambda m: seen.append(type(m).__name__)) is ours
    assert seen == ["Linear", "BatchNorm2d", "Conv2d", "ReLU", "Sequential", "Block"]


def test_conversions_keep_objects_values_and_memory_order(ours):
    params = list(ours.parameters())
    before = [p.array.copy() for p in params]
    ours.scale.grad = leaf([3.0, 4.0])
    assert ours.double() is ours
    assert all(a is b for a, b in zip(ours.parameters(), params, strict=True))
    for param, old in zip(params, before, strict=True):
        assert param.dtype == np.float64
        assert param.requires_grad
        np.testing.assert_array_equal(param.array, old)
    assert ours.norm.running_mean.dtype == np.float64
    assert ours.norm.num_batches_tracked.dtype == np.int64
    assert ours.scale.grad.dtype == np.float64
    assert ours.scale.grad.array.tolist() == [3, 4]
    assert ours.tail[0].weight.array.transpose(2, 3, 1, 0).flags.c_contiguous
    assert ours.fc.weight.array.T.flags.c_contiguous
    ours.float()
    assert {p.dtype for p in ours.parameters()} == {np.dtype(np.float32)}
    for to in (lambda: ours.to("reference"), lambda: ours.to(device="reference")):
        ours.to("cpu")
        to()
        assert {str(t.device) for t in (*ours.parameters(), *ours.buffers())} == {"reference"}
    ours.to("cpu", mg.float64)
    assert ours.scale.dtype == np.float64
    assert str(ours.scale.device) == "cpu"
    with pytest.raises(DTypeError, match="must be float32 or float64, got int64"):
        ours.to(mg.int64)


def test_deepcopy_is_independent_and_keeps_memory_order(ours):
    twin = copy.deepcopy(ours)
    assert type(twin.fc.weight) is nn.Parameter
    assert twin.fc.weight.requires_grad
    assert twin.tail[0].weight.array.strides == ours.tail[0].weight.array.strides
    nn.init.zeros_(twin.fc.weight)
    assert ours.fc.weight.array.any()
    assert repr(twin) == repr(ours)


def test_a_parameter_is_a_leaf_that_shares_memory():
    data = leaf([1.0, 2.0])
    param = nn.Parameter(data)
    assert param.array is data.array
    assert param.is_leaf
    assert param.requires_grad
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    with pytest.raises(GraphError):
        param.backward()
    assert repr(param).startswith("Parameter containing:\n")


def test_paths_and_duplicates_are_torchs(ours, theirs):
    for net in (ours, theirs):
        assert net.get_submodule("tail.1") is net.tail[1]
        assert net.get_submodule("") is net
        assert net.get_parameter("tail.0.weight") is net.tail[0].weight
        assert net.get_buffer("norm.running_mean") is net.norm.running_mean
        for wrong in ("tail.7", "scale", "fc.weight.x"):
            with pytest.raises(AttributeError):
                net.get_submodule(wrong)
        with pytest.raises(AttributeError):
            net.get_parameter("norm.running_mean")
        with pytest.raises(AttributeError):
            net.get_buffer("tail.0.absent")
        net.alias = net.fc
        net.set_submodule("tail.1", net.norm)
        assert net.tail[1] is net.norm
    for duplicates in (True, False):
        for walk in ("named_modules", "named_parameters", "named_buffers"):
            mine, torchs = (
                [name for name, _ in getattr(net, walk)(prefix="n", remove_duplicate=duplicates)]
                for net in (ours, theirs)
            )
            assert mine == torchs
    assert [name for name, _ in ours.named_modules({ours.tail})] == ["", "fc", "norm"]


def test_other_conversions(ours):
    assert ours.to(leaf([1.0]).double()).scale.dtype == np.float64
    assert ours.to("cpu", mg.float32, True).scale.dtype == np.float32
    assert ours.to(memory_format="channels_last", non_blocking=True).type(mg.float64) is ours
    assert ours.scale.dtype == np.float64
    assert str(ours.to("reference").cpu().scale.device) == "cpu"
    ours._apply(lambda tensor: tensor * 2)
    ours._apply(lambda tensor: tensor * 2, recurse=False)
    assert ours.scale.tolist() == [4, 8]
    assert ours.norm.weight.tolist() == [2, 2, 2]
    assert str(ours.to_empty(device="reference").fc.weight.device) == "reference"
    for refused in (ours.half, ours.bfloat16, lambda: ours.to("float16")):
        with pytest.raises((DTypeError, mg.DeviceError)):
            refused()


# Hooks ----------------------------------------------------------------------------------------


def test_hooks_see_and_replace_and_can_be_removed():
    class Double(nn.Module):
        def forward(self, x, plus=0):
            return 2 * x + plus

    module = Double()
    log = []

    def before(m, args):
        log.append(("before", m is module, args))
        return (args[0] + 1,)

    def watch(m, args, output):
        log.append(("after", args, output))

    first = module.register_forward_pre_hook(before)
    second = module.register_forward_hook(watch)
    third = module.register_forward_hook(lambda m, args, output: output * 10)
    assert module(3, plus=1) == 90
    assert log == [("before", True, (3,)), ("after", (4,), 9)]
    third.remove()
    assert module(3) == 8
    with second:
        pass
    first.remove()
    assert module(3) == 6
    assert len(log) == 4


def test_a_hook_may_remove_itself_while_it_runs():
    module = nn.Identity()
    handle = module.register_forward_hook(lambda *_: handle.remove())
    other = []
    module.register_forward_hook(lambda *_: other.append(1))
    module(1)
    module(1)
    assert other == [1, 1]
    assert len(module._forward_hooks) == 1


def test_hooks_with_keywords_in_front_and_after_failures():
    class Fails(nn.Module):
        def forward(self, x, fail=False):
            if fail:
                raise ValueError("no")
            return x

    module, log = Fails(), []
    module.register_forward_hook(lambda m, args, output: log.append(("last", output)))
    module.register_forward_hook(
        lambda m, args, kwargs, output: log.append((kwargs, output)),
        prepend=True, with_kwargs=True, always_call=True,
    )  # fmt: skip
    handle = module.register_forward_pre_hook(
        lambda m, args, kwargs: ((args[0] + 1,), {"fail": kwargs["x"]}), with_kwargs=True
    )
    assert module(1, x=False) == 2
    with pytest.raises(ValueError, match="no"):
        module(1, x=True)
    assert log == [({"fail": False}, 2), ("last", 2), ({"fail": True}, None)]
    handle.remove()
    module.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(ValueError, match=r"must return None or \(args, kwargs\)"):
        module(1)


def backward_log(lib, tensor, trainable):
    """What backward hooks see, and the gradients that they leave."""

    class Two(lib.Module):
        def forward(self, x, y, scale=1):
            return x * y * scale, y + 1

    module, log = Two(), []

    def note(kind):
        def hook(m, *grads):
            log.append(
                (kind, [[None if g is None else g.tolist() for g in each] for each in grads])
            )

        return hook

    module.register_full_backward_pre_hook(note("before"))
    module.register_full_backward_hook(note("after"))
    module.register_full_backward_hook(
        lambda m, grad_input, _: tuple(None if g is None else g * 10 for g in grad_input)
    )
    x, y = tensor([2.0, 3.0]), tensor([4.0, 5.0])
    x.requires_grad = y.requires_grad = trainable
    w = tensor([1.0, 1.0])
    w.requires_grad = True
    first, second = module(x * 1, y, scale=w)
    (first * first + second).sum().backward()
    return log, None if x.grad is None else x.grad.tolist(), w.grad.tolist()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # torch's
@pytest.mark.parametrize("trainable", [True, False])
def test_full_backward_hooks_are_torchs(trainable):
    ours, theirs = (
        backward_log(lib, tensor, trainable)
        for lib, tensor in ((nn, leaf), (torch.nn, torch.tensor))
    )
    assert ours[1:] == theirs[1:]
    if trainable:  # without inputs, torch hands None for each of them, or one
        assert ours[0] == theirs[0]


def test_backward_hooks_keep_a_layer_out_of_chains():
    net, seen = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2)), []
    net[0].register_full_backward_pre_hook(lambda m, grad_output: seen.append(grad_output[0].shape))
    net[1].register_full_backward_hook(lambda m, _, grad_output: seen.append(grad_output[0].shape))
    net(mg.ones(3, 1, 5, 5)).sum().backward()
    assert seen == [(3, 2, 4, 4)] * 2


# Containers -----------------------------------------------------------------------------------


def test_sequential_indexing_slices_and_names():
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU()]
    net = nn.Sequential(*layers)
    assert len(net) == 4
    assert list(net) == layers
    assert net[-2] is layers[2]
    part = net[1:3]
    assert isinstance(part, nn.Sequential)
    assert [name for name, _ in part.named_children()] == ["1", "2"]
    assert part[0] is layers[1]
    net[1] = tanh = nn.Tanh()
    assert net[1] is tanh
    del net[0]
    assert [name for name, _ in net.named_children()] == ["0", "1", "2"]
    net.append(nn.Identity())
    assert len(net) == 4
    named = nn.Sequential(OrderedDict([("first", layers[0]), ("second", layers[1])]))
    assert named.first is layers[0]
    assert list(named.state_dict()) == ["first.weight", "first.bias"]
    with pytest.raises(IndexError, match="index 9 of 4 modules"):
        net[9]
    with pytest.raises(TypeError, match="must be an int or a slice"):
        net["first"]
    with pytest.raises(TypeError, match="must be a Module or None, got int"):
        nn.Sequential(3)


def test_module_list():
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    layers.append(nn.ReLU())
    layers.insert(1, nn.Tanh())
    assert [type(m).__name__ for m in layers] == ["Linear", "Tanh", "Linear", "Linear", "ReLU"]
    assert [type(m).__name__ for m in layers[1:3]] == ["Tanh", "Linear"]
    del layers[1]
    layers[0] = nn.Identity()
    assert list(layers.state_dict()) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    assert len(layers) == 4
    with pytest.raises(TypeError, match="ModuleList must define forward"):
        layers(1)


def test_module_dict():
    layers = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()})
    layers["c"] = nn.Tanh()
    assert list(layers) == list(layers.keys()) == ["a", "b", "c"]
    assert "a" in layers
    assert "z" not in layers
    relu = layers.pop("b")
    assert isinstance(relu, nn.ReLU)
    assert [name for name, _ in layers.items()] == ["a", "c"]
    assert len(list(layers.values())) == len(layers) == 2
    del layers["c"]
    layers.clear()
    assert len(layers) == 0


def test_module_lists_add_pop_and_show_as_torchs():
    for lib in (nn, torch.nn):
        layers = lib.ModuleList([lib.ReLU(), lib.ReLU()])
        layers += [lib.Tanh()]
        both = layers + lib.ModuleList([lib.Sigmoid()])
        assert [type(m).__name__ for m in both] == ["ReLU", "ReLU", "Tanh", "Sigmoid"]
        assert type(layers.pop(-1)).__name__ == "Tanh"
        assert len(layers) == 2
    ours, theirs = (
        lib.ModuleList([lib.ReLU(), lib.ReLU(), lib.Sequential(lib.Tanh())])
        for lib in (nn, torch.nn)
    )
    assert repr(ours) == repr(theirs)
    assert repr(nn.ModuleList()) == repr(torch.nn.ModuleList())


def test_parameter_lists_and_dicts_are_torchs():
    seen = []
    for lib, tensor in ((nn, leaf), (torch.nn, torch.tensor)):
        items = lib.ParameterList([tensor([1.0]), lib.Parameter(tensor([2.0, 3.0]))])
        items.append(tensor([4.0]))
        items += [tensor([5.0])]
        items[-1] = tensor([6.0])
        named = lib.ParameterDict({"b": tensor([1.0]), "a": lib.Parameter(tensor([2.0]))})
        named.update({"c": tensor([3.0])})
        named.pop("b")
        net = lib.Module()
        net.items, net.named = items, named
        seen.append((
            shapes(net.named_parameters()), len(items), [p.tolist() for p in items[1:3]],
            [(key, p.tolist()) for key, p in named.items()], "a" in named, "b" in named,
            list(named), named.get("z", 7), len(named), list(net.state_dict()),
        ))  # fmt: skip
        with pytest.raises(IndexError):
            items[4]
    with pytest.raises(KeyError, match="z"):
        nn.ParameterDict()["z"]
    assert seen[0] == seen[1]
    assert "(0): Parameter containing: [float32 of size 1]" in repr(nn.ParameterList([leaf([1.0])]))


# Lazy modules ---------------------------------------------------------------------------------

LAZY = [
    (lambda lib: lib.LazyLinear(3), (2, 5)),
    (lambda lib: lib.LazyConv1d(4, 3, groups=2), (2, 6, 5)),
    (lambda lib: lib.LazyConv2d(4, 3, padding=1, bias=False), (6, 5, 5)),
    (lambda lib: lib.LazyConvTranspose1d(4, 3, groups=2), (6, 5)),
    (lambda lib: lib.LazyConvTranspose2d(4, 3), (2, 6, 5, 5)),
    (lambda lib: lib.LazyBatchNorm1d(), (2, 6)),
    (lambda lib: lib.LazyBatchNorm2d(affine=False), (2, 6, 5, 5)),
    (lambda lib: lib.LazyInstanceNorm1d(), (2, 6, 5)),
    (lambda lib: lib.LazyInstanceNorm2d(), (2, 6, 5, 5)),
]


@pytest.mark.parametrize("case", range(len(LAZY)))
def test_a_lazy_layer_becomes_the_layer_of_its_first_input(case):
    make, shape = LAZY[case]
    ours, theirs = make(nn), make(torch.nn)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    optimised = list(ours.parameters())
    values = np.random.default_rng(0).standard_normal(shape)
    ours.double()
    theirs.double()(torch.tensor(values))
    twin = copy.deepcopy(ours)
    out = ours(Tensor(values))
    assert type(ours).__name__ == type(theirs).__name__ == repr(ours).partition("(")[0]
    assert repr(ours) == repr(theirs)
    assert shapes(ours.state_dict().items()) == shapes(theirs.state_dict().items())
    assert all(a is b for a, b in zip(ours.parameters(), optimised, strict=True))
    assert not ours._forward_pre_hooks
    np.testing.assert_array_equal(ours(Tensor(values)).array, out.array)
    # Loaded before the first call, it has the values that were loaded.
    if optimised:
        for tensor in ours.parameters():
            nn.init.uniform_(tensor, 1, 2)
    twin.load_state_dict(ours.state_dict())
    np.testing.assert_array_equal(twin(Tensor(values)).array, ours(Tensor(values)).array)
    assert repr(twin) == repr(ours)


def test_uninitialised_parameters_have_no_shape():
    layer = nn.LazyLinear(2)
    assert isinstance(layer.weight, nn.UninitializedParameter)
    with pytest.raises(mg.ShapeError, match="has no shape yet"):
        layer.weight.shape  # noqa: B018
    with pytest.raises(mg.ShapeError, match="Conv2d: in_channels must be at least 1, got 0"):
        nn.LazyConv2d(2, 1)(leaf([1.0]))


@pytest.mark.parametrize("lib", [nn, torch.nn])
def test_a_buffer_registers_itself(lib):
    make = leaf if lib is nn else torch.tensor
    module = lib.Module()
    module.kept = lib.Buffer(make([1.0]))
    module.hidden = lib.Buffer(make([2.0]), persistent=False)
    assert [name for name, _ in module.named_buffers()] == ["kept", "hidden"]
    assert list(module.state_dict()) == ["kept"]


def test_norms_of_images_are_no_batch_norms():
    for lib in (nn, torch.nn):
        base, images = lib.modules.batchnorm._NormBase, lib.InstanceNorm2d(2)
        assert isinstance(images, base)
        assert isinstance(lib.BatchNorm2d(2), base)
        assert not isinstance(images, lib.modules.batchnorm._BatchNorm)


def test_losses_with_weights_share_a_base():
    for lib in (nn, torch.nn):
        base = lib.modules.loss._WeightedLoss
        for name in ("CrossEntropyLoss", "NLLLoss", "BCELoss", "MultiMarginLoss"):
            assert isinstance(getattr(lib, name)(), base)
        assert issubclass(base, lib.modules.loss._Loss)
