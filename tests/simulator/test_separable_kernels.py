"""The fused block in the simulator: every kernel, patches that overhang, cut panels, launches counted, NaN."""

import os

import numpy as np
import pytest

import sccengine
import sccengine.functional as F
from sccengine import Tensor, nn, no_grad
from sccengine.functional.separable import Stage
from sccengine.kernels.cuda import launch, separable_tiles
from sccengine.kernels.cuda.separable_tiles import Patch, Plan
from sccengine.windows import ChannelWindows
from tests.checks import separable as checks

pytestmark = pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="needs the simulator")

# Of the simulator's 16 columns a block: whole patches, and some that overhang the image on every side.
PATCHES = [Patch(0, 0, 4), Patch(1, 1, 2), Patch(2, 2, 0), Patch(0, 3, 1)]
BASE = {"shape": (4, 10, 3, 5), "filters": 37, "groups": 2, "overlap": 0.5, "follows": ("nr", "nr")}


CASES = [
    {**BASE, "lanes": 4},
    {**BASE, "lanes": 4, "stride": 2},
    {**BASE, "lanes": 4, "kernel": (5, 5), "padding": 2},
    {**BASE, "lanes": 4, "kernel": (5, 5), "padding": (0, 4), "shape": (8, 10, 6, 3)},
    {**BASE, "lanes": 1, "shape": (3, 10, 3, 5)},
    {**BASE, "lanes": 1, "shape": (5, 10, 2, 4), "kernel": (5, 5), "padding": 2, "stride": (1, 2)},
]


@pytest.mark.parametrize("name", separable_tiles.TILES)
@pytest.mark.parametrize(
    "case, patch", [(case, patch) for case in CASES for patch in PATCHES if case["lanes"] <= 1 << patch.images], ids=str
)
def test_every_kernel_and_patch(name, patch, case, monkeypatch):
    seen = []

    def plan(windows, size, batch, kernel, stride, lanes):
        seen.append(lanes)
        return Plan(name, patch, splits=1)

    monkeypatch.setattr(separable_tiles, "plan_of", plan)
    checks.check("simulator", case, np.dtype("float32"))
    assert seen == [case["lanes"]]


@pytest.mark.parametrize("splits", [2, 3])
def test_cut_panels(splits, monkeypatch):
    plan = Plan(separable_tiles.TILES[1], Patch(1, 1, 2), splits)
    monkeypatch.setattr(separable_tiles, "plan_of", lambda *problem: plan)
    case = {**BASE, "shape": (4, 24, 3, 3), "groups": 1, "overlap": None}
    checks.check("simulator", case, np.dtype("float32"))


def test_the_plan_cuts_panels_where_blocks_are_few():
    windows = ChannelWindows.dense(64, 40)
    assert separable_tiles.plan_of(windows, (1, 1), 4, (3, 3), (1, 1), 4).splits > 1
    assert separable_tiles.plan_of(windows, (64, 64), 256, (3, 3), (1, 1), 4).splits == 1


@pytest.mark.parametrize(
    "size, batch, kernel, stride, patch",
    [
        ((32, 32), 128, (3, 3), (1, 1), Patch(1, 1, 5)),
        ((1, 1), 128, (3, 3), (1, 1), Patch(0, 0, 7)),
        ((16, 1), 128, (3, 3), (1, 1), Patch(2, 0, 5)),
        ((32, 32), 1, (3, 3), (1, 1), Patch(3, 4, 0)),
    ],
)
def test_patches_of_a_gpu(size, batch, kernel, stride, patch):
    found = separable_tiles.patch_of(128, size, batch, kernel, stride, 4 if batch % 4 == 0 else 1)
    assert sum(found) == 7
    assert found == patch or {found.tall, found.wide} == {patch.tall, patch.wide} and found.images == patch.images


@pytest.mark.parametrize("batch", [1, 2, 4, 12, 100])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 7), (56, 3)])
def test_vectors_lie_within_the_images_of_a_patch(size, batch):
    for lanes in (1, 4):
        patch = separable_tiles.patch_of(128, size, batch, (3, 3), (1, 1), lanes)
        assert sum(patch) == 7 and 1 << patch.images >= lanes


def test_rows_that_do_not_begin_at_16_bytes_are_read_one_by_one(monkeypatch):
    x, depthwise, mixing, windows = checks.problem(BASE, np.float32)
    stages = [checks.on_device(stage, "simulator") for stage in (depthwise, mixing)]
    aligned = F.separable(Tensor(x, device="simulator"), *stages, windows=windows, padding=1).numpy()
    monkeypatch.setattr(separable_tiles, "rows_aligned", lambda *arrays: False)
    single = F.separable(Tensor(x, device="simulator"), *stages, windows=windows, padding=1).numpy()
    assert aligned.tobytes() == single.tobytes()


def _block():
    layers = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4, relu=True), nn.SCC(4, 6), nn.BatchNorm2d(6)
    return nn.Sequential(*layers, nn.ReLU()).to("simulator").eval()


def _launches(model, x):
    with no_grad(), launch.recording() as launches:
        model(x)
    return [kernel.py_func.__name__ if hasattr(kernel, "py_func") else kernel.fn.__name__ for kernel, *_ in launches]


def test_a_block_is_two_launches():
    block, x = _block(), Tensor(np.ones((4, 4, 5, 5), np.float32), device="simulator")
    first, second = _launches(block, x)
    assert first == "fold_and_pack_v1" and second.startswith("separable_")
    with nn.unfused():
        assert len(_launches(block, x)) >= 6


def test_tensor_cores_take_the_convolutions_one_by_one():
    block, x = _block(), Tensor(np.ones((4, 4, 5, 5), np.float32), device="simulator")
    sccengine.set_matmul_precision("high")
    try:
        names = _launches(block, x)
    finally:
        sccengine.set_matmul_precision("highest")
    assert not any(name.startswith("separable_") for name in names)
    assert names[0] == "fold_v1" and len(names) == 4 and "relu" not in " ".join(names)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("batch", [3, 4])
def test_nan_passes_both_relus(batch):
    x = np.ones((batch, 4, 3, 3), np.float32)
    x[1, 0, 1, 1] = np.nan
    stages = (
        Stage(np.ones((4, 1, 3, 3), np.float32), relu=True),
        Stage(np.ones((2, 4), np.float32), relu=True),
    )
    stages = [checks.on_device(stage, "simulator") for stage in stages]
    y = F.separable(Tensor(x, device="simulator"), *stages, windows=ChannelWindows.dense(4, 2), padding=1).numpy()
    assert np.isnan(y[1]).all() and np.isfinite(y[0]).all()
