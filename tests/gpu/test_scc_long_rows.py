"""The contraction over so many columns that a block makes many tiles one after another."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine.autograd import Tensor
from sccengine.backend import kernels_for
from sccengine.bench import oracle_scc
from sccengine.gradcheck import assert_close
from tests.checks.scc import rounding

# C, cg, co. On A100 and H100 the forward's weights stay in shared memory with 24 channels; with 200 those in TF32 come
# anew.
PROBLEMS = [(24, 2, 0.5), (200, 1, 0.5)]


@pytest.mark.parametrize("channels, groups, overlap", PROBLEMS)
def test_every_variant_of_tiles(channels, groups, overlap):
    random = np.random.default_rng(0)
    x = random.standard_normal((80, channels, 32, 32), dtype=np.float32)
    weight = random.standard_normal((72, channels // groups), dtype=np.float32)
    dy = random.standard_normal((80, 72, 32, 32), dtype=np.float32)
    want = {"y": oracle_scc.forward(x, weight, np.zeros(72), groups, overlap)}
    want["dx"], want["dweight"], _ = oracle_scc.backward(dy, x, weight, groups, overlap)
    like = Tensor([0.0], device="cuda").array
    kernels = kernels_for(like).scc
    for name, variant in kernels.VARIANTS.items():
        if not name.startswith(("register", "tf32", "bf16")) or kernels.problem(name, like):
            continue
        inputs = [Tensor(each, requires_grad=True, device="cuda") for each in (x, weight)]
        y = F.scc(*inputs, groups=groups, overlap=overlap, variant=name)
        y.backward(Tensor(dy, device="cuda"))
        for result, got in zip(want, (y, inputs[0].grad, inputs[1].grad)):
            assert_close(f"{name}: {result}", got.numpy(), want[result], rounding(variant, "float32"))
