"""The tape: fan-out, no_grad, detach, freed graphs, changes in place, devices, memory order."""

import threading

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import backend
from sccengine.autograd import Function, Parameter, Tensor, is_grad_enabled, no_grad
from sccengine.optim import SGD


class Scale(Function):
    """y = factor * x, keeping x (not y), so that changes of x in place matter."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        self.save(x)
        return x * self.factor

    def backward(self, dy):
        return (dy * self.factor,)


def _leaf(*shape):
    return Tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)


def test_fan_out_adds_up():
    x = _leaf(2, 3)
    y = F.add(Scale(2.0)(x), F.add(Scale(3.0)(x), x))
    y.backward(Tensor(np.ones((2, 3))))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 6.0))


def test_a_diamond_walks_each_node_once():
    x = _leaf(2, 3)
    h = Scale(2.0)(x)
    for _ in range(30):  # 2**30 paths
        h = F.add(h, h)
    h.backward(Tensor(np.ones((2, 3))))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 2.0**31))


def test_gradients_accumulate_over_passes():
    x = _leaf(4)
    for _ in range(3):
        Scale(2.0)(x).backward(Tensor(np.ones(4)))
    np.testing.assert_array_equal(x.grad.numpy(), np.full(4, 6.0))


def test_gradients_of_two_leaves_do_not_share_memory():
    a, b = _leaf(2, 3), _leaf(2, 3)
    dy = Tensor(np.ones((2, 3)))
    F.add(a, b).backward(dy)
    a.grad.array[...] = 7
    np.testing.assert_array_equal(b.grad.numpy(), np.ones((2, 3)))
    np.testing.assert_array_equal(dy.numpy(), np.ones((2, 3)))


def test_deep_graphs_need_no_recursion():
    x = _leaf(1)
    y = x
    for _ in range(5000):
        y = Scale(1.0)(y)
    y.backward()
    assert x.grad.item() == 1.0


def test_no_grad_as_context_and_decorator():
    x = _leaf(3)
    with no_grad():
        assert not is_grad_enabled()
        assert not Scale(2.0)(x).requires_grad
    assert is_grad_enabled()
    assert not no_grad()(lambda: Scale(2.0)(x))().requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert is_grad_enabled()


def test_no_grad_is_per_thread():
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_no_grad_may_be_entered_again_before_it_ends():
    @no_grad()
    def depth(n):
        return 0 if n == 0 else 1 + depth(n - 1)

    again = no_grad()
    with again, again:
        pass
    assert depth(3) == 3 and is_grad_enabled()


def test_one_decorator_in_two_threads_that_overlap():
    inside, go_on = threading.Event(), threading.Event()
    seen = []

    @no_grad()
    def wait():
        inside.set()
        go_on.wait(10)

    def first():
        wait()
        seen.append(is_grad_enabled())

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with no_grad():
        go_on.set()
        wait()
        thread.join()
        assert not is_grad_enabled()
    assert seen == [True] and is_grad_enabled()


@pytest.mark.parametrize(
    "work",
    [
        lambda x: np.maximum(x, 0),
        lambda x: np.ones(2, np.float32) + x,
        lambda x: np.float32(2) * x,
        np.sum,
        np.mean,
        np.argmax,
        lambda x: np.concatenate([x, x]),
        lambda x: np.where(np.array([True, False]), x, 0),
    ],
)
def test_numpy_cannot_take_a_tensor_out_of_the_graph_unnoticed(work):
    with pytest.raises(TypeError, match=r"numpy\.\w+ would take a Tensor out of the graph"):
        work(Tensor(np.ones(2, np.float32)))
    x = Tensor(np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(np.asarray(x), np.ones((2, 3)))
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 1)) == ((2, 3), 2, 6, 3)
    assert np.allclose(np.ones((2, 3)), x) and np.array_equal(x, a2=x)


def test_detach_cuts_the_graph():
    x = _leaf(3)
    y = F.add(_as_row(Scale(2.0)(x).detach()), _as_row(x))
    assert y.requires_grad
    y.backward(Tensor(np.ones(y.shape)))
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(3))


def _as_row(x):
    class Row(Function):
        def forward(self, x):
            return x.reshape(1, -1)

        def backward(self, dy):
            return (dy.reshape(-1),)

    return Row()(x)


def test_second_backward_is_refused_and_changes_nothing():
    x, z = _leaf(3), _leaf(3)
    h = Scale(2.0)(x)
    h.backward(Tensor(np.ones(3)))
    y = F.add(_as_row(h), _as_row(Scale(1.0)(z)))
    with pytest.raises(RuntimeError, match="through this Scale before and freed .* run forward again"):
        y.backward(Tensor(np.ones((1, 3))))
    assert z.grad is None
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 2.0))


@pytest.mark.parametrize("how", ["array handed out before", "array it was made of", "new data", "counted change"])
def test_changing_a_kept_leaf_in_place_is_caught(how):
    source = np.ones(4)
    x = Tensor(source, requires_grad=True)
    data = x.data
    y = Scale(2.0)(x)
    if how == "array handed out before":
        data[2] = 5
    elif how == "array it was made of":
        source[0] = 3
    elif how == "new data":
        x.data = np.zeros(4)
    else:
        x.array[0] = 9
        x.changed()
    with pytest.raises(RuntimeError, match=r"input 0 of Scale, shape \(4,\), was changed in place"):
        y.backward(Tensor(np.ones(4)))


@pytest.mark.parametrize("look", [lambda x: x.data, lambda x: x.detach().numpy()], ids=["data", "detached"])
@pytest.mark.parametrize("changes", [False, True])
def test_a_leaf_may_be_looked_at_between_forward_and_backward_but_not_changed(look, changes):
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = Scale(2.0)(x)
    seen = look(x)
    np.testing.assert_array_equal(seen, [1, 2, 3])
    if not changes:
        y.backward(Tensor(np.ones(3, np.float32)))
        np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 2.0))
        return
    seen[1] = 7
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(Tensor(np.ones(3, np.float32)))


@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("change", ["data", "optimizer", "flattened data"])
def test_a_leaf_is_watched_through_a_view_of_it(change, requires_grad):
    values = np.random.default_rng(0).standard_normal((1, 3, 1, 2)).astype(np.float32)
    x = Parameter(values, requires_grad) if change == "optimizer" else Tensor(values, requires_grad)
    flat = F.flatten(x)
    y = F.linear(flat, Parameter(np.ones((5, 6), np.float32)))
    if change == "data":
        x.data[0] += 1
    elif change == "optimizer":
        x.grad = Tensor(np.ones(x.shape, np.float32))
        SGD([x], lr=0.1).step()
    elif requires_grad:
        with pytest.raises(ValueError, match="read-only"):
            flat.data[0] += 1
        return
    else:
        flat.data[0] += 1
    with pytest.raises(RuntimeError, match="input 0 of Contraction, .* was changed in place"):
        y.backward(Tensor(np.ones(y.shape, np.float32)))


def test_values_of_a_leaf_that_only_change_places_are_noticed():
    x = Tensor(np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype(np.float32))
    y = F.conv2d(x, Parameter(np.ones((2, 3, 3, 3), np.float32)))
    x.data[...] = x.numpy()[..., ::-1].copy()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(Tensor(np.ones(y.shape, np.float32)))


def test_an_array_that_became_the_data_of_a_leaf_is_watched():
    x, array = Tensor([1.0, 2.0], requires_grad=True), np.zeros(2, np.float32)
    x.data = array
    y = Scale(2.0)(x)
    array[0] = 1
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(Tensor(np.ones(2, np.float32)))


def test_data_looked_at_and_then_replaced_by_a_copy_are_not_changed_ones():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    np.testing.assert_array_equal(x.data, [[1, 2], [3, 4]])
    x.data = np.array([[5.0, 6.0], [7.0, 8.0]], np.float32)  # row-major: copied into batch-last order
    y = Scale(2.0)(x)
    y.backward(Tensor(np.ones((2, 2), np.float32)))
    np.testing.assert_array_equal(y.numpy(), [[10, 12], [14, 16]])
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 2), 2.0))


def test_stepping_an_optimizer_before_backward_is_caught():
    weight = Parameter(np.ones((2, 3), np.float32))
    y = F.linear(Tensor(np.ones((1, 3), np.float32), requires_grad=True), weight)
    weight.grad = Tensor(np.ones((2, 3), np.float32))
    scc.optim.SGD([weight], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(Tensor(np.ones((1, 2), np.float32)))


def test_changing_what_nobody_kept_is_allowed():
    x = _leaf(2, 3)
    y = F.add(x, x)
    x.data[0] = 100
    y.backward(Tensor(np.ones((2, 3))))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 2.0))


def test_graph_results_are_read_only():
    y = Scale(2.0)(_leaf(3))
    with pytest.raises(ValueError, match="read-only"):
        y.data[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        y.numpy()[0] = 1
    with pytest.raises(RuntimeError, match="detach"):
        y.data = np.zeros(3)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: Tensor([1.0]).backward(), RuntimeError, "does not depend on anything that requires a gradient"),
        (lambda: Scale(1.0)(_leaf(3)).backward(), RuntimeError, r"shape \(3,\) needs a gradient"),
        (
            lambda: Scale(1.0)(_leaf(3)).backward(np.ones(2)),
            ValueError,
            r"gradient has shape \(2,\), the tensor \(3,\)",
        ),
        (lambda: Scale(1.0)(_leaf(3)).backward(np.ones(3, np.float32)), TypeError, "gradient is float32"),
        (lambda: Tensor(np.arange(3), requires_grad=True), TypeError, "only floating-point tensors"),
        (lambda: Tensor(np.array(["a"])), TypeError, "float32, float64 or integers"),
        (lambda: Tensor(np.zeros(3, np.float16)), TypeError, "float32, float64 or integers, got float16"),
        (lambda: Tensor([1.0, 2.0]).item(), ValueError, "one element"),
        (lambda: Tensor([1.0], device="gpu"), ValueError, "unknown device 'gpu'"),
        (lambda: Tensor([1.0], device=0), TypeError, "a device is a string"),
        (lambda: setattr(Tensor([1.0]), "data", np.zeros(2, np.float32)), ValueError, "must keep shape"),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_node_is_called_once():
    node = Scale(1.0)
    node(_leaf(1))
    with pytest.raises(RuntimeError, match="already called"):
        node(_leaf(1))


def test_a_wrong_gradient_of_an_operator_is_named():
    class Wrong(Scale):
        def backward(self, dy):
            return (dy[:1],)

    with pytest.raises(RuntimeError, match=r"Wrong.backward gave \(1,\) float64 for an input of \(3,\)"):
        Wrong(1.0)(_leaf(3)).backward(Tensor(np.ones(3)))


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda dy: dy, TypeError, "return a tuple of 2, one gradient or None an input, got ndarray"),
        (lambda dy: None, TypeError, "return a tuple of 2, .* got NoneType"),
        (lambda dy: (dy,), ValueError, "return a tuple of 2, .* got 1"),
        (lambda dy: (dy, dy, dy), ValueError, "return a tuple of 2, .* got 3"),
        (lambda dy: (dy, Tensor(dy)), TypeError, "return arrays, got Tensor"),
        (lambda dy: (dy, 2.0), TypeError, "return arrays, got float"),
    ],
)
def test_what_backward_of_a_function_must_return_is_said(result, error, message):
    class Own(Function):
        def forward(self, a, b):
            return a + b

        def backward(self, dy):
            return result(dy)

    y = Own()(_leaf(2, 3), _leaf(2, 3))  # two rows: an array of them could pass for two gradients
    with pytest.raises(error, match=f"Own.backward must {message}"):
        y.backward(np.ones((2, 3)))


@pytest.mark.parametrize("result", [Tensor, lambda x: None, lambda x: (x,), lambda x: 2.0])
def test_what_forward_of_a_function_must_return_is_said(result):
    class Own(Function):
        def forward(self, x):
            return result(x)

    with pytest.raises(TypeError, match=f"Own.forward must return an array, got {type(result(1.0)).__name__}"):
        Own()(_leaf(3))


def test_a_function_may_scale_a_loss():
    x = Tensor(np.float32(2.0), requires_grad=True)
    Scale(2.0)(Scale(3.0)(x)).backward()  # NumPy makes numbers of the gradients, which are of shape ()
    assert isinstance(x.grad.array, np.ndarray) and x.grad.item() == 6.0


def test_memory_is_batch_last_and_copied_once():
    images = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    x = Tensor(images)
    np.testing.assert_array_equal(x.numpy(), images)
    assert x.array.transpose(1, 2, 3, 0).flags.c_contiguous
    assert Tensor(x.array).array is not images and backend.owner(Tensor(x.array).array) is backend.owner(x.array)
    weight = Parameter(images)
    assert weight.array.flags.c_contiguous and not np.shares_memory(weight.array, images)


def test_python_numbers_become_float32_and_arrays_keep_their_type():
    assert Tensor([1, 2.5]).dtype == np.float32
    assert Tensor(np.zeros(2)).dtype == np.float64
    assert Tensor([1, 2]).dtype.kind == "i"
    np.testing.assert_array_equal(np.asarray(Tensor([1.5])), [1.5])
    assert float(Tensor(2.5)) == 2.5


def test_read_only_arrays_are_copied():
    source = np.broadcast_to(np.float32(1), (2, 3))
    x = Tensor(source, requires_grad=True)
    F.relu(x).backward(Tensor(np.ones((2, 3), np.float32)))
    np.testing.assert_array_equal(x.grad.numpy(), np.ones((2, 3)))


def test_a_function_may_return_the_scalar_that_numpy_sums_to():
    class Total(Function):
        def forward(self, x):
            self.shape = x.shape
            return x.sum()

        def backward(self, dy):
            return (np.full(self.shape, dy),)

    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    total = Total()(x)
    total.backward()
    assert total.item() == 6 and total.shape == ()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones((2, 3)))
