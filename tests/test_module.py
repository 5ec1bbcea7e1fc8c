"""Module, Sequential and ModuleList: registration, walking, state, modes, devices, printing; as in PyTorch."""

import copy
from collections import OrderedDict

import numpy as np
import pytest

from sccengine import nn
from sccengine.autograd import Parameter, Tensor


class Block(nn.Module):
    def __init__(self, channels=2):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.scale = Parameter(np.ones(channels, np.float32))
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.norm(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.rest = nn.Sequential(Block(), nn.Linear(2, 3))
        self.register_buffer("steps", np.zeros((), np.int64))
        self.register_parameter("absent", None)
        self.width = 7


NAMES = [
    "first.scale",
    "first.norm.weight",
    "first.norm.bias",
    "rest.0.scale",
    "rest.0.norm.weight",
    "rest.0.norm.bias",
    "rest.1.weight",
    "rest.1.bias",
]


def test_parameters_come_in_order():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert len(list(net.parameters())) == len(NAMES)
    assert net.absent is None


def test_shared_parameters_and_modules_come_once_but_are_saved_under_each_name():
    net = nn.Module()
    net.a = nn.Linear(2, 2, bias=False)
    net.b = nn.Linear(2, 2, bias=False)
    net.b.weight = net.a.weight
    net.c = net.a
    assert [name for name, _ in net.named_parameters()] == ["a.weight"]
    assert list(net.state_dict()) == ["a.weight", "b.weight", "c.weight"]
    assert [name for name, _ in net.named_modules()] == ["", "a", "b"]
    assert [name for name, _ in net.named_children()] == ["a", "b"]


def test_walking():
    net = Net()
    names = [name for name, _ in net.named_modules()]
    assert names == ["", "first", "first.norm", "first.act", "rest", "rest.0", "rest.0.norm", "rest.0.act", "rest.1"]
    assert list(net.children()) == [net.first, net.rest]
    assert len(list(net.modules())) == len(names)
    buffers = [name for name, _ in net.named_buffers()]
    assert buffers[0] == "steps" and "first.norm.running_mean" in buffers and len(buffers) == 7
    visited = []
    assert net.apply(lambda module: visited.append(type(module).__name__)) is net
    assert visited[:3] == ["BatchNorm2d", "ReLU", "Block"] and visited[-1] == "Net"


def test_assignment_replaces_and_deletes():
    net = Net()
    net.first = nn.ReLU()
    assert "first.scale" not in net.state_dict()
    del net.first
    assert not hasattr(net, "first")
    net.width = Parameter(np.ones(1))
    assert "width" in net.state_dict() and "width" not in vars(net)
    net.width = None
    assert "width" not in net.state_dict()
    with pytest.raises(TypeError, match="Net.width takes a Parameter or None, got int"):
        net.width = 5
    with pytest.raises(TypeError, match="Net.rest takes a Module or None, got str"):
        net.rest = "nothing"
    with pytest.raises(TypeError, match="buffer 'steps' must be an array, a Tensor or None, got float"):
        net.steps = 1.0


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'wdth'"):
        _ = Net().wdth
    assert {"first", "steps", "parameters"} <= set(dir(Net()))


def test_forgotten_super_init():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    class Plain(nn.Module):
        def __init__(self):
            self.width = 3

        def forward(self, x):
            return x

    with pytest.raises(RuntimeError, match=r"call super\(\).__init__\(\) first in Forgetful.__init__"):
        Forgetful()
    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) first in Plain.__init__"):
        list(Plain().parameters())
    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) first in Plain.__init__"):
        Plain()(1)


@pytest.mark.parametrize(
    "register, error, message",
    [
        (lambda net: net.register_buffer("a.b", None), ValueError, "non-empty string without a dot, got 'a.b'"),
        (lambda net: net.register_buffer("forward", None), ValueError, "already has an attribute 'forward'"),
        (lambda net: net.register_buffer("b", 3.0), TypeError, "buffer 'b' must be an array, .* got float"),
        (lambda net: net.register_parameter("p", np.ones(1)), TypeError, "must be a Parameter or None, got ndarray"),
        (lambda net: net.add_module("", nn.ReLU()), ValueError, "module name must be a non-empty string"),
        (lambda net: net.add_module("m", 3), TypeError, "child 'm' must be a Module or None, got int"),
        (lambda net: net.train("yes"), TypeError, r"train\(mode\) takes True or False, got str"),
        (lambda net: net.load_state_dict([]), TypeError, "Net.load_state_dict takes a mapping .* got list"),
        (lambda net: net.to("gpu"), ValueError, "unknown device 'gpu'"),
        (lambda net: net(1), NotImplementedError, r"Net does not define forward\(\)"),
    ],
)
def test_bad_use(register, error, message):
    with pytest.raises(error, match=message):
        register(Net())


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(np.int32, "int32"), ("int64", "int64"), ("float16", "float16"), ("bfloat16", "bfloat16"), (3, "3")],
)
def test_modules_are_float32_or_float64(dtype, name):
    with pytest.raises(TypeError, match=f"Net.to takes dtype float32 or float64, got {name}"):
        Net().to(dtype=dtype)


def test_state_dict_holds_contiguous_copies():
    net = Net()
    state = net.state_dict()
    assert set(state) == {*NAMES, *(name for name, _ in net.named_buffers())}
    for array in state.values():
        assert type(array) is np.ndarray and array.flags.c_contiguous and array.flags.writeable
    state["first.scale"][...] = 9
    assert (net.first.scale.numpy() == 1).all()


def test_load_state_dict_round_trip_keeps_identity():
    source, target = Net(), Net()
    source.first.scale.data[...] = 5
    source.first.norm.running_mean[...] = 3
    source.steps += 4
    weight = target.first.scale
    result = target.load_state_dict(source.state_dict())
    assert result == ([], [])
    assert target.first.scale is weight and (weight.numpy() == 5).all()
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, source.state_dict()[name])


def test_load_state_dict_accepts_any_order_of_memory_tensors_and_dtypes():
    layer = nn.Linear(3, 2)
    weight = np.arange(6.0).reshape(3, 2).T
    layer.load_state_dict({"bias": Tensor(np.array([1.0, 2.0])), "weight": weight})
    np.testing.assert_array_equal(layer.weight.numpy(), weight)
    assert layer.weight.dtype == np.float32 and layer.weight.array.flags.c_contiguous


def test_load_state_dict_reports_everything_and_changes_nothing():
    net = Net()
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    del state["first.scale"], state["steps"]
    state["rest.1.weight"] = np.zeros((3, 5), np.float32)
    state["first.norm.num_batches_tracked"] = np.float64(1.5)
    state["extra"] = np.zeros(1)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    for line in (
        "Net.load_state_dict: nothing loaded",
        "missing: first.scale",
        "missing: steps",
        "unexpected: extra",
        "rest.1.weight: shape (3, 5) in the state, (3, 2) in the model",
        "first.norm.num_batches_tracked: dtype float64 in the state cannot become int64",
    ):
        assert line in str(caught.value)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_load_state_dict_not_strict():
    net = Net()
    result = net.load_state_dict({"first.scale": np.full(2, 4.0), "extra": np.zeros(1)}, strict=False)
    assert result.unexpected_keys == ["extra"] and "rest.1.weight" in result.missing_keys
    assert (net.first.scale.numpy() == 4).all()
    with pytest.raises(RuntimeError, match=r"first.scale: shape \(3,\) in the state, \(2,\) in the model"):
        net.load_state_dict({"first.scale": np.zeros(3)}, strict=False)
    with pytest.raises(TypeError, match="'first.scale' must hold numbers, got a str"):
        net.load_state_dict({"first.scale": "text"}, strict=False)


def test_modes():
    net = Net()
    assert net.training and net.first.norm.training
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.first.train()
    assert net.first.norm.training and not net.rest.training


def test_zero_grad_and_freezing():
    net = Net()
    for parameter in net.parameters():
        parameter.grad = Tensor(np.zeros(parameter.shape, np.float32))
    net.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.requires_grad_(False) is net
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_to_dtype_keeps_parameters_and_integer_buffers():
    net = Net()
    parameters = list(net.parameters())
    parameters[0].grad = Tensor(np.ones(2, np.float32))
    assert net.to("cpu", dtype=np.float64) is net
    assert all(a is b for a, b in zip(parameters, net.parameters()))
    assert {p.dtype.name for p in parameters} == {"float64"} and parameters[0].grad.dtype == np.float64
    assert net.first.norm.running_mean.dtype == np.float64
    assert net.steps.dtype == np.int64


def test_a_deep_copy_is_independent():
    net = Net()
    twin = copy.deepcopy(net)
    twin.first.scale.data[...] = 9
    assert (net.first.scale.numpy() == 1).all()
    assert [name for name, _ in twin.named_parameters()] == NAMES


def test_forward_hooks():
    layer = nn.ReLU()
    x = Tensor(np.array([[-1.0, 2.0]]))
    seen = []
    with layer.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs, output.shape))):
        layer(x)
    layer(x)
    assert seen == [(layer, (x,), (1, 2))]
    handle = layer.register_forward_hook(lambda module, inputs, output: "replaced")
    assert layer(x) == "replaced"
    handle.remove()
    handle.remove()
    assert isinstance(layer(x), Tensor)


def test_repr_is_a_tree():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def extra_repr(self):
            return "classes=2"

    expected = """\
Sequential(
  (0): ReLU()
  (1): Sequential(
    (act): ReLU6()
  )
  (2): Head(
    classes=2
    (fc): Linear(in_features=4, out_features=2, bias=True)
  )
)"""
    assert repr(nn.Sequential(nn.ReLU(), nn.Sequential(OrderedDict(act=nn.ReLU6())), Head())) == expected


def test_sequential():
    relu, relu6, flatten = nn.ReLU(), nn.ReLU6(), nn.Flatten()
    model = nn.Sequential(OrderedDict(act=relu, cap=relu6))
    assert model.append(flatten) is model
    assert model.act is relu and model[1] is relu6 and model[-1] is flatten and len(model) == 3
    assert list(model) == [relu, relu6, flatten]
    part = model[1:]
    assert isinstance(part, nn.Sequential) and list(part) == [relu6, flatten]
    np.testing.assert_array_equal(model(np.float32([[[-1, 9]]])).numpy(), [[0, 6]])
    model[0] = relu6
    assert model.act is relu6
    with pytest.raises(IndexError, match="Sequential has 3 modules, index 3 is out of range"):
        model[3]
    with pytest.raises(TypeError, match="Sequential takes Modules, got function at '1'"):
        nn.Sequential(relu, lambda x: x)
    with pytest.raises(ValueError, match="Sequential already has an attribute 'forward'"):
        nn.Sequential({"forward": relu})


def test_module_list():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(layers) == 3 and layers[-1] is list(layers)[2]
    assert layers.extend([nn.ReLU()]) is layers and isinstance(layers[3], nn.ReLU)
    assert isinstance(layers[:2], nn.ModuleList) and len(layers[:2]) == 2
    assert list(layers.state_dict())[:2] == ["0.weight", "0.bias"]
    with pytest.raises(TypeError, match="ModuleList takes Modules, got int at '4'"):
        layers.append(3)
    with pytest.raises(NotImplementedError, match="ModuleList does not define forward"):
        layers(1)
