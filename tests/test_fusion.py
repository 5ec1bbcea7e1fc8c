"""Sequential in evaluation: which layers become one operator, when, and that nothing else changes."""

import threading

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import Tensor, models, nn, no_grad
from sccengine.gradcheck import TOLERANCES, Tolerance, assert_close
from sccengine.models import SCHEMES


@pytest.fixture
def fused(monkeypatch):
    """The calls of F.separable, each as its Stages."""
    calls = []
    operator = F.separable

    def watched(x, *stages, **settings):
        calls.append(stages)
        return operator(x, *stages, **settings)

    monkeypatch.setattr(F, "separable", watched)
    return calls


def _settled(model, seed=0):
    """The model in evaluation mode with batch norms that do something."""
    random = np.random.default_rng(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for array, low in ((module.weight, 0.5), (module.bias, -0.5)):
                if array is not None:
                    array.data = random.uniform(low, low + 1, array.shape).astype(array.dtype)
            if module.running_mean is not None:
                module.running_mean[...] = random.uniform(-0.2, 0.2, module.num_features)
                module.running_var[...] = random.uniform(0.5, 2, module.num_features)
    return model.eval()


def _image(*shape):
    return Tensor(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


def _block(**changes):
    layers = {
        "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
        "norm": nn.BatchNorm2d(4, relu=True),
        "mix": nn.SCC(4, 6),
        "norm2": nn.BatchNorm2d(6),
        "relu": nn.ReLU(),
    }
    return _settled(nn.Sequential({name: layer for name, layer in {**layers, **changes}.items() if layer is not None}))


# Blocks of a model that are fused; ResNet's basic blocks: the two layers, the batch norm is shared with the shortcut.
BLOCKS = {"dscnet": 3, "mobilenet": 13, "vgg11": 7, "resnet18": 8, "resnet50": 16}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", BLOCKS)
def test_models_give_the_same_fused_and_not(name, scheme, fused):
    model = _settled(models.build(name, scheme=scheme, width=0.25, groups=2, overlap=0.33))
    x = _image(3, 3, 32, 32)
    with no_grad():
        got = model(x).numpy()
        assert len(fused) == (0 if scheme == "standard" else BLOCKS[name])
        with nn.unfused():
            want = model(x).numpy()
        assert len(fused) == (0 if scheme == "standard" else BLOCKS[name])
    # Rounding of every layer, through up to fifty of them.
    assert_close("logits", got, want, Tolerance(relative=1e-4, absolute=TOLERANCES["float32"].absolute))


def test_everything_that_belongs_to_a_block_is_in_it(fused):
    with no_grad():
        _block()(_image(2, 4, 5, 5))
    ((depthwise, mixing),) = fused
    assert depthwise.relu and mixing.relu
    assert depthwise.mean is not None and mixing.mean is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": None},
        {"norm": nn.ReLU()},
        {"norm2": None},
        {"norm2": None, "relu": None},
        {"norm": nn.BatchNorm2d(4, affine=False)},
        {"depthwise": nn.Conv2d(4, 4, 5, stride=2, groups=4, bias=False, padding=2)},
        {"mix": nn.Conv2d(4, 6, 1)},
        {"mix": nn.Conv2d(4, 6, 1, groups=2, bias=False)},
        {"mix": nn.SCC(4, 6, groups=4, overlap=0, bias=False)},
    ],
    ids=repr,
)
def test_parts_may_be_missing(changes, fused):
    block = _block(**changes)
    x = _image(3, 4, 6, 5)
    with no_grad():
        got = block(x).numpy()
        assert len(fused) == 1
        with nn.unfused():
            assert_close("y", got, block(x).numpy(), "float32")


class OwnReLU(nn.ReLU):
    """Another class may do anything."""


@pytest.mark.parametrize(
    "changes",
    [
        {"depthwise": nn.Conv2d(4, 8, 3, groups=4), "norm": nn.BatchNorm2d(8), "mix": nn.SCC(8, 6)},
        {"depthwise": nn.Conv2d(4, 4, 3)},
        {"norm": nn.BatchNorm2d(4, track_running_stats=False)},
        {"norm": OwnReLU()},
        {"norm": nn.ReLU6()},
        {"mix": nn.SCC(4, 6, stride=2)},
        {"mix": nn.Conv2d(4, 6, 1, padding=1)},
        {"mix": nn.Conv2d(4, 6, 3)},
    ],
    ids=repr,
)
def test_other_layers_compute_for_themselves(changes, fused):
    block = _block(**changes)
    x = _image(3, 4, 6, 5)
    with no_grad():
        got = block(x).numpy()
        with nn.unfused():
            assert got.tobytes() == block(x).numpy().tobytes()
    assert not fused


def test_an_own_layer_after_the_block_stays_outside(fused):
    block = _block(norm2=None, relu=OwnReLU())
    with no_grad():
        assert (block(_image(2, 4, 5, 5)).numpy() >= 0).all()
    assert len(fused) == 1 and not fused[0][1].relu


def test_hooks_are_called(fused):
    block = _block()
    seen = []
    handle = block[1].register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with no_grad():
        block(_image(2, 4, 5, 5))
        assert seen == [(2, 4, 5, 5)] and not fused
        handle.remove()
        block(_image(2, 4, 5, 5))
    assert len(seen) == 1 and len(fused) == 1


def test_a_forward_given_to_one_layer_is_called(fused):
    block = _block()
    block[2].forward = lambda x: F.scc(x, block[2].weight, groups=2, overlap=0.5)
    with no_grad():
        block(_image(2, 4, 5, 5))
    assert not fused


def test_training_mode_is_never_fused(fused):
    block = _block().train()
    with no_grad():
        block(_image(2, 4, 5, 5))
        block.eval()[1].train()
        block(_image(2, 4, 5, 5))
    assert not fused
    assert block[1].num_batches_tracked == 2, "the batch norm in training mode has seen both batches"


def test_nothing_is_fused_while_gradients_are_recorded(fused):
    block = _block()
    x = _image(2, 4, 5, 5)
    block(x).backward(Tensor(np.ones((2, 6, 5, 5), np.float32)))
    assert not fused and all(p.grad is not None for p in block.parameters())
    block.requires_grad_(False)
    block(x)
    assert len(fused) == 1, "nothing requires a gradient"
    block[3].bias.requires_grad = True
    assert block(x).requires_grad
    block[3].bias.requires_grad = False
    assert block(Tensor(x.numpy(), requires_grad=True)).requires_grad
    assert len(fused) == 1


def test_nothing_goes_stale():
    block = _block()
    x = _image(2, 4, 5, 5)
    with no_grad():
        before = block(x).numpy()
        block[1].running_mean[...] += 1
        block[3].weight.data = -block[3].weight.numpy()
        after = block(x).numpy()
        with nn.unfused():
            assert_close("y", after, block(x).numpy(), "float32")
        block[2] = nn.Conv2d(4, 6, 1)
        changed = block(x).numpy()
    assert not np.allclose(before, after) and not np.allclose(after, changed)


def test_unfused_nests_and_belongs_to_its_thread(fused):
    block = _block()
    x = _image(2, 4, 5, 5)

    def run():
        with no_grad():
            block(x)
        return len(fused)

    with nn.unfused():
        with nn.unfused():
            assert run() == 0
        assert run() == 0
        other = threading.Thread(target=run)
        other.start()
        other.join()
        assert len(fused) == 1
    assert run() == 2


@pytest.mark.parametrize("shape, message", [((2, 5, 6, 6), "Conv2d: made for 4 channels"), ((2, 4), "conv2d")])
def test_what_does_not_fit_is_refused_by_the_layer(shape, message):
    with no_grad(), pytest.raises(ValueError, match=message):
        _block()(_image(*shape))


def test_blocks_of_unequal_width_are_refused_by_the_layer(fused):
    with no_grad(), pytest.raises(ValueError, match="SCC: made for 6 channels"):
        _block(mix=nn.SCC(6, 6))(_image(2, 4, 5, 5))
    assert not fused
