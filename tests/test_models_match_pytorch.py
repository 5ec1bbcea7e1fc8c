"""The published models against the same networks written in PyTorch: counts, outputs, statistics and gradients."""

import math

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import models
from sccengine.windows import ChannelWindows
from tests.model_counts import IMAGENET, cases
from tests.test_training_matches_pytorch import pytorch  # noqa: F401  (a fixture)

NETWORKS = [name for name in models.MODELS if name != "dscnet"]
OVERLAP = 0.33


@pytest.fixture
def peers(pytorch):  # noqa: F811
    from peers import models

    return models


def build_twin(peers, name, scheme, groups, **settings):
    def channels(in_channels, out_channels):
        used = groups if in_channels >= groups else 1
        return ChannelWindows.sliding(in_channels, out_channels, used, OVERLAP).channels()

    return peers.build(name, scheme, groups=groups, channels=channels, **settings)


def counts_of(peers, twin, size):
    """(parameters, multiply-accumulates an image) of a network on PyTorch's device without storage."""
    macs = []

    def record(module, inputs, output):
        macs.append(module.weight.numel() * math.prod(output.shape[2:]))

    for module in twin.modules():
        if isinstance(module, (peers.Conv2d, peers.Linear, peers.SCC)):
            module.register_forward_hook(record)
    twin(peers.torch.empty(2, 3, size, size, device="meta"))
    return sum(parameter.numel() for parameter in twin.parameters()), sum(macs)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_counts_of_the_table(peers, name):
    for model, scheme, groups, counts in cases():
        if model == name:
            twin = build_twin(peers, name, scheme, groups, device="meta")
            assert counts_of(peers, twin, 32) == counts, (scheme, groups)
    if name in IMAGENET:
        twin = build_twin(peers, name, "standard", 1, stem="imagenet", num_classes=1000, device="meta")
        assert counts_of(peers, twin, 224) == IMAGENET[name]


@pytest.mark.parametrize("scheme", models.SCHEMES)
@pytest.mark.parametrize(
    "name, stem, width, groups",
    [
        ("vgg11", "cifar", 0.125, 4),
        ("vgg13", "cifar", 0.125, 8),
        ("vgg16", "cifar", 0.125, 2),
        ("vgg19", "imagenet", 0.125, 4),
        ("resnet18", "cifar", 0.125, 4),
        ("resnet18", "imagenet", 0.125, 2),
        ("resnet34", "cifar", 0.125, 4),
        ("resnet50", "cifar", 0.125, 8),
        ("mobilenet", "cifar", 0.25, 16),  # whose first block has 8 channels: narrower than the groups
        ("mobilenet", "imagenet", 0.25, 4),
    ],
)
def test_outputs_statistics_and_gradients_are_the_same(peers, name, stem, width, groups, scheme):
    scc.set_seed(5)
    settings = {"width": width, "num_classes": 7, "in_channels": 2, "stem": stem}
    model = models.build(name, scheme=scheme, groups=groups, overlap=OVERLAP, **settings).to(dtype="float64")
    twin = build_twin(peers, name, scheme, groups, **settings).double()
    assert list(twin.state_dict()) == list(model.state_dict())
    twin.load_state_dict({key: peers.torch.from_numpy(value) for key, value in model.state_dict().items()})

    rng = np.random.default_rng(1)
    images, labels = rng.standard_normal((4, 2, 32, 32)), np.array([0, 6, 3, 3])
    x, tx = scc.Tensor(images, requires_grad=True), peers.torch.from_numpy(images).requires_grad_()
    logits, want = model(x), twin(tx)
    np.testing.assert_allclose(logits.numpy(), want.detach().numpy(), rtol=1e-9, atol=1e-10)
    F.cross_entropy(logits, labels).backward()
    peers.torch.nn.functional.cross_entropy(want, peers.torch.from_numpy(labels)).backward()

    # Batch norm over the few values of the last stages magnifies rounding; a wrong layer is wrong by 1e-3 and more.
    np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-6, atol=1e-8)
    wanted = {key: parameter.grad.numpy() for key, parameter in twin.named_parameters()}
    for key, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), wanted[key], rtol=1e-6, atol=1e-8, err_msg=key)
    for key, value in twin.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[key], value.numpy(), rtol=1e-9, atol=1e-12, err_msg=key)

    model.eval(), twin.eval()
    with scc.no_grad(), peers.torch.no_grad():
        np.testing.assert_allclose(model(x).numpy(), twin(tx).numpy(), rtol=1e-9, atol=1e-10)
