"""The depthwise separable block as one operator: values, roads through it, NaN, what it refuses."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import backend, no_grad
from sccengine.autograd import Parameter, Tensor
from sccengine.functional.separable import Stage
from sccengine.kernels.cpu import separable as kernels
from sccengine.windows import ChannelWindows
from tests.checks import separable as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


# The last row of strips is shorter, and columns end amid a vector.
LARGE = {"shape": (23, 40, 29, 11), "filters": 50, "groups": 4, "overlap": 0.25, "follows": ("nr", "nr")}


def _run(case, dtype="float32"):
    x, depthwise, mixing, windows = checks.problem(case, dtype)
    stages = (checks.on_device(stage, "cpu") for stage in (depthwise, mixing))
    settings = {"stride": case.get("stride", 1), "padding": case.get("padding", 1)}
    return F.separable(x, *stages, windows=windows, **settings).numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_in_strips_give_the_bits_of_whole_images(dtype, monkeypatch):
    checks.check("cpu", LARGE, dtype)
    in_strips = _run(LARGE, dtype)
    roads = []
    monkeypatch.setattr(kernels, "_by_rows", lambda *args, **kwargs: roads.append("rows"))
    monkeypatch.setattr(kernels, "_STRIP_ELEMENTS", 1 << 30)
    assert _run(LARGE, dtype).tobytes() == in_strips.tobytes() and not roads
    monkeypatch.undo()
    monkeypatch.setattr(kernels, "_by_rows", lambda *args, **kwargs: roads.append("rows"))
    _run(LARGE, dtype)
    assert roads == ["rows"]


def test_bits_do_not_depend_on_the_number_of_threads():
    threads = backend.num_threads()
    if threads == 1:
        pytest.skip("one thread only")
    try:
        many = _run(LARGE)
        backend.set_num_threads(1)
        assert _run(LARGE).tobytes() == many.tobytes()
    finally:
        backend.set_num_threads(threads)


@pytest.mark.parametrize("batch", [2, 32])
def test_nan_reaches_the_output(batch):
    x = np.ones((batch, 4, 3, 3), np.float32)
    x[1, 0, 1, 1] = np.nan
    stages = (
        Stage(np.ones((4, 1, 3, 3), np.float32), relu=True),
        Stage(np.ones((2, 4), np.float32), relu=True),
    )
    y = F.separable(x, *stages, windows=ChannelWindows.dense(4, 2), padding=1).numpy()
    assert np.isnan(y[1]).all() and np.isfinite(y[0]).all()


def _inputs():
    x, depthwise, mixing, windows = checks.problem(checks.CASES[0], "float64")
    return {"x": x, "depthwise": depthwise, "mixing": mixing, "windows": windows, "padding": 1}


def test_weights_of_any_shape_and_order():
    inputs = _inputs()
    want = F.separable(**inputs).numpy()
    mixing, depthwise = inputs["mixing"], inputs["depthwise"]
    inputs["mixing"] = mixing._replace(weight=np.asfortranarray(mixing.weight)[:, :, None, None])
    inputs["depthwise"] = depthwise._replace(weight=np.asfortranarray(depthwise.weight), var=Tensor(depthwise.var))
    inputs["x"] = np.asfortranarray(inputs["x"])
    np.testing.assert_array_equal(F.separable(**inputs).numpy(), want)


def test_no_gradient_is_lost_in_silence():
    inputs = _inputs()
    inputs["mixing"] = inputs["mixing"]._replace(weight=Parameter(inputs["mixing"].weight))
    with pytest.raises(RuntimeError, match=r"separable: it has no backward.*no_grad\(\)"):
        F.separable(**inputs)
    with no_grad():
        assert not F.separable(**inputs).requires_grad


@pytest.mark.parametrize(
    "stage, change, error, message",
    [
        (None, {"x": np.zeros((2, 6, 5))}, ValueError, r"separable: input must be \(N, C, H, W\)"),
        (None, {"x": np.zeros((2, 5, 4, 4))}, ValueError, r"depthwise weight must be \(5, 1, kh, kw\) .* got .*\(6, 1"),
        (None, {"windows": ChannelWindows.dense(5, 8)}, ValueError, "windows of 5 channels for an input of 6"),
        (None, {"stride": 0}, ValueError, "separable: stride must be at least 1, got 0"),
        (None, {"padding": "same"}, TypeError, "separable: padding must be an int or a pair"),
        (None, {"padding": 0, "x": np.zeros((1, 6, 2, 5))}, ValueError, "3x3 window .* does not fit an image of 2x5"),
        ("depthwise", {"weight": np.zeros((12, 1, 3, 3))}, ValueError, r"depthwise weight must be \(6, 1, kh, kw\)"),
        ("depthwise", {"var": np.zeros(5)}, ValueError, r"separable: depthwise var must have shape \(6,\), got \(5,\)"),
        ("depthwise", {"mean": None}, ValueError, "depthwise stage must have a mean and a var, or neither"),
        ("depthwise", {"mean": None, "var": None}, ValueError, "has a gamma or a beta, but no mean and var"),
        ("depthwise", {"eps": 0.0}, ValueError, "separable: eps must be a finite number above 0, got 0.0"),
        ("mixing", {"weight": np.zeros((8, 4))}, ValueError, r"mixing weight must be \(8, 3\), got shape \(8, 4\)"),
        ("mixing", {"bias": np.zeros(6)}, ValueError, r"mixing bias must have shape \(8,\), got \(6,\)"),
        ("mixing", {"mean": np.zeros(8, np.float32)}, TypeError, "mixing mean is float32 but the input is float64"),
        ("mixing", {"weight": np.zeros((8, 3), np.float32)}, TypeError, "mixing weight is float32 but the input is"),
    ],
)
def test_bad_inputs(stage, change, error, message):
    inputs = _inputs()
    change = change if stage is None else {stage: inputs[stage]._replace(**change)}
    with pytest.raises(error, match=message):
        F.separable(**{**inputs, **change})
