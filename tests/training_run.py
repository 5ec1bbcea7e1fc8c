"""A training run small enough for tests: 64 images, a network of one hidden layer, about a millisecond a step."""

import numpy as np

from sccengine import backend, data, nn, optim
from sccengine.data import ImageDataset
from sccengine.training import Trainer

CLASSES = 4


def dataset(images=64, seed=0, name="blobs"):
    """Images of 4 classes that a small network can learn: a bright quarter, under noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, images)
    pixels = random.integers(0, 120, (images, 1, 4, 4))
    for image, label in zip(pixels, labels):
        row, column = divmod(int(label), 2)
        image[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 100
    return ImageDataset(pixels.astype(np.uint8), labels, tuple("abcd"), name)


def model(dropout=0.2):
    return nn.Sequential(
        {
            "flat": nn.Flatten(),
            "first": nn.Linear(16, 8),
            "act": nn.ReLU(),
            "drop": nn.Dropout(dropout),
            "head": nn.Linear(8, CLASSES),
        }
    )


def trainer(out=None, *, seed=3, lr=0.1, batch=16, test=True, schedule=None, **settings):
    """A Trainer of `model` on `dataset`: 4 steps an epoch, dropout and random crops so that random numbers matter."""
    backend.set_seed(seed)
    network = model()
    transforms = [data.RandomCrop(1)]
    train = data.Loader(dataset(), batch, shuffle=True, seed=seed, transforms=transforms, drop_last=True)
    held_out = data.Loader(dataset(40, 1, "blobs/test"), 32) if test else None
    optimizer = optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    settings = {"progress": "quiet", **settings}
    return Trainer(network, optimizer, train, held_out, schedule=schedule, out=out, **settings)


def fit_captured(run, epochs):
    """Fit; whether the last step was the replay of a captured one."""
    replayed = None
    step = run.scheduler.step

    def looking():
        nonlocal replayed
        step()
        captured = run._stepper._captured
        replayed = captured is not None and captured.captured

    run.scheduler.step = looking
    run.fit(epochs)
    return replayed


def rows_without_seconds(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def assert_same_weights(one, other):
    assert list(one) == list(other)
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name
