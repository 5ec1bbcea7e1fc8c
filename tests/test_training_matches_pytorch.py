"""The same small network, weights and batches, trained here and in PyTorch: the losses stay together.

In float64 they do so to the last digits. In float32 a ReLU whose input lies within rounding of zero now and then falls
on the other side, and from there two correct trainings part, PyTorch's own NCHW and matmul formulations as much as the
engine and PyTorch: so float32 has three starts, most of which must stay together.
"""

from pathlib import Path

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import models, optim
from sccengine.windows import ChannelWindows

STEPS, BATCH = 30, 32
MOMENTUM = 0.9
SCHEMES = [("dw+scc", 2, 0.5), ("dw+scc", 4, 0.33), ("dw+pw", 1, 0.0)]


@pytest.fixture
def pytorch(monkeypatch):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install 'sccengine[test-torch]'")
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    from peers import pytorch

    threads = pytorch.torch.get_num_threads()
    pytorch.torch.set_num_threads(1)
    yield pytorch
    pytorch.torch.set_num_threads(threads)


def blobs(dtype):
    """Batches of ten classes of 8x8 images: a fixed random picture a class, plus noise."""
    rng = np.random.default_rng(3)
    pictures = rng.standard_normal((10, 1, 8, 8))
    labels = rng.integers(0, 10, (STEPS, BATCH))
    images = pictures[labels] + rng.standard_normal((STEPS, BATCH, 1, 8, 8))
    return list(zip(images.astype(dtype), labels))


def engine_losses(model, batches, lr):
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM)
    losses = []
    for images, labels in batches:
        loss = F.cross_entropy(model(scc.Tensor(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def torch_losses(pytorch, twin, batches, lr):
    optimizer = pytorch.torch.optim.SGD(twin.parameters(), lr=lr, momentum=MOMENTUM)
    losses = []
    for images, labels in batches:
        loss = pytorch.F.cross_entropy(twin(pytorch.tensor(images, "cpu")), pytorch.tensor(labels, "cpu"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def train_both(pytorch, scheme, groups, overlap, dtype, seed, lr):
    """(engine's losses, PyTorch's losses, engine's model, PyTorch's model) of the same training."""
    scc.set_seed(seed)
    model = models.build("dscnet", scheme=scheme, groups=groups, overlap=overlap, in_channels=1).to(dtype=dtype)

    def channels(in_channels, out_channels):
        return ChannelWindows.sliding(in_channels, out_channels, groups, overlap).channels()

    from peers import models as twins

    twin = twins.build("dscnet", scheme, groups=groups, channels=channels, in_channels=1)
    twin.load_state_dict({name: pytorch.torch.from_numpy(value) for name, value in model.state_dict().items()})
    twin = twin.to(getattr(pytorch.torch, dtype))
    want = torch_losses(pytorch, twin, blobs(dtype), lr)
    return engine_losses(model, blobs(dtype), lr), want, model, twin


@pytest.mark.parametrize("scheme, groups, overlap", SCHEMES)
def test_thirty_steps_are_the_same_in_float64(pytorch, scheme, groups, overlap):
    got, want, model, twin = train_both(pytorch, scheme, groups, overlap, "float64", seed=11, lr=0.05)
    assert want[-1] < 0.5 * want[0]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
    after = twin.state_dict()
    assert list(model.state_dict()) == list(after)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, after[name].numpy(), rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("scheme, groups, overlap", SCHEMES[:2])
def test_thirty_steps_stay_together_in_float32(pytorch, scheme, groups, overlap):
    gaps = []
    for seed in (11, 12, 13):
        got, want, _, _ = train_both(pytorch, scheme, groups, overlap, "float32", seed, lr=0.01)
        assert want[-1] < 0.9 * want[0]
        np.testing.assert_allclose(got[:5], want[:5], rtol=0, atol=1e-4)
        gaps.append(np.abs(got - want).max())
    assert np.median(gaps) < 1e-4, gaps
