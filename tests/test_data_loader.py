"""The loader: every image once an epoch, and the same bits from any position."""

import json

import numpy as np
import pytest

from sccengine.data import Cutout, ImageDataset, Loader, Normalize, RandomCrop, RandomHorizontalFlip

STEPS = [RandomCrop(1), RandomHorizontalFlip(), Cutout(2), Normalize(0.5, 0.25)]


def dataset(count=23, shape=(2, 4, 3)):
    """Image i is filled with i, so that a batch tells which images it holds."""
    images = np.empty((count, *shape), np.uint8)
    images[...] = np.arange(count)[:, None, None, None]
    return ImageDataset(images, np.arange(count, dtype=np.int64) % 5, tuple("abcde"), "toy")


def which(images):
    return np.rint(images[:, 0, 0, 0] * 255).astype(int).tolist()


def same(got, want):
    return len(got) == len(want) and all(
        np.array_equal(a, b) and np.array_equal(c, d) for (a, c), (b, d) in zip(got, want)
    )


def test_batches_are_float32_batch_last():
    for transforms in (None, STEPS):
        for images, labels in Loader(dataset(), 8, transforms=transforms):
            assert images.dtype == np.float32 and images.shape[1:] == (2, 4, 3)
            assert images.transpose(1, 2, 3, 0).flags.c_contiguous
            assert labels.dtype == np.int64 and labels.shape == images.shape[:1]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 23, 30])
def test_every_image_once_an_epoch(batch_size, drop_last):
    if drop_last and batch_size > 23:
        return
    loader = Loader(dataset(), batch_size, shuffle=True, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader) == (23 // batch_size if drop_last else -(-23 // batch_size))
    seen = [i for images, _ in batches for i in which(images)]
    assert len(set(seen)) == len(seen) == (23 - 23 % batch_size if drop_last else 23)
    labels = [label for _, labels in batches for label in labels.tolist()]
    assert labels == [i % 5 for i in seen]


def test_order():
    plain = Loader(dataset(), 7)
    assert [i for images, _ in plain for i in which(images)] == list(range(23))
    shuffled = Loader(dataset(), 7, shuffle=True, seed=1)
    epochs = [[i for images, _ in shuffled for i in which(images)] for _ in range(3)]
    assert len({tuple(order) for order in epochs}) == 3
    assert shuffled.epoch == 3 and shuffled.batch == 0
    other = Loader(dataset(), 7, shuffle=True, seed=2)
    assert [i for images, _ in other for i in which(images)] != epochs[0]
    shuffled.rewind(1)
    assert [i for images, _ in shuffled for i in which(images)] == epochs[1]


def test_order_does_not_depend_on_the_batch_size():
    orders = [
        [i for images, _ in Loader(dataset(), size, shuffle=True, seed=4) for i in which(images)] for size in (3, 23)
    ]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("stop", range(11))
def test_resumes_bit_for_bit_from_any_position(stop):
    def make():
        return Loader(dataset(), 5, shuffle=True, seed=9, transforms=STEPS)

    def walk(loader, count):
        batches = []
        while len(batches) < count:
            for batch in loader:
                batches.append(batch)
                if len(batches) == count:
                    break
        return batches

    whole = walk(make(), 12)
    first = make()
    head = walk(first, stop)
    state = json.loads(json.dumps(first.state_dict()))
    second = make()
    second.load_state_dict(state)
    assert same(head + walk(second, 12 - stop), whole)


def test_state_inside_the_last_batch_leaves_an_empty_rest_of_the_epoch():
    loader = Loader(dataset(), 12, shuffle=True)
    states = [loader.state_dict() for _ in loader]
    assert [(state["epoch"], state["batch"]) for state in states] == [(0, 1), (0, 2)]
    resumed = Loader(dataset(), 12, shuffle=True)
    resumed.load_state_dict(states[-1])
    assert list(resumed) == [] and (resumed.epoch, resumed.batch) == (1, 0)


def test_a_loop_goes_on_after_a_break_and_rewind_starts_again():
    loader = Loader(dataset(), 5)
    for _ in loader:
        break
    assert which(next(iter(loader))[0]) == [5, 6, 7, 8, 9]
    loader.rewind()
    assert which(next(iter(loader))[0]) == [0, 1, 2, 3, 4]


def test_a_state_loaded_during_a_loop_takes_effect():
    loader = Loader(dataset(), 5)
    state = loader.state_dict()
    batches = iter(loader)
    first, second = next(batches), next(batches)
    loader.load_state_dict(state)
    assert same([next(batches), next(batches)], [first, second])


def test_random_numbers_elsewhere_change_nothing():
    wanted = list(Loader(dataset(), 5, shuffle=True, transforms=STEPS))
    np.random.seed(5)
    np.random.random(3)
    assert same(list(Loader(dataset(), 5, shuffle=True, transforms=STEPS)), wanted)


@pytest.mark.parametrize(
    "other, message",
    [
        ({"batch_size": 6}, "batch_size is 6 here and 5 in the state"),
        ({"seed": 8}, "seed is 8 here and 9 in the state"),
        ({"shuffle": False}, "shuffle is False here and True in the state"),
        ({"drop_last": True}, "drop_last is True here and False in the state"),
        ({"dataset": dataset(24)}, "images is 24 here and 23 in the state"),
        ({"transforms": STEPS[1:]}, r"transforms is 'Compose\(RandomHorizontalFlip.* and 'Compose\(RandomCrop"),
    ],
)
def test_a_state_of_another_loader_is_refused(other, message):
    settings = {"dataset": dataset(), "batch_size": 5, "shuffle": True, "seed": 9, "transforms": STEPS}
    state = Loader(**settings).state_dict()
    loader = Loader(**(settings | other))
    with pytest.raises(ValueError, match=f"Loader: the state does not fit: .*{message}"):
        loader.load_state_dict(state)
    assert (loader.epoch, loader.batch) == (0, 0)


@pytest.mark.parametrize("change", [{"batch": 6}, {"batch": -1}, {"epoch": -1}, {"epoch": "1"}, {"batch": 1.0}])
def test_impossible_positions_are_refused(change):
    loader = Loader(dataset(), 5)
    with pytest.raises(ValueError, match="a batch in 0 ... 5, got epoch"):
        loader.load_state_dict(loader.state_dict() | change)


def test_incomplete_states_are_refused():
    with pytest.raises(ValueError, match="the state has no batch, images"):
        Loader(dataset(), 5).load_state_dict(
            {"epoch": 0, "batch_size": 5, "shuffle": False, "seed": 0, "transforms": "", "drop_last": False}
        )


@pytest.mark.parametrize(
    "bad, error, message",
    [
        ({"dataset": [1, 2]}, TypeError, "must be an ImageDataset, got list"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be a whole number, got 2.0"),
        ({"batch_size": True}, TypeError, "batch_size must be a whole number, got True"),
        ({"batch_size": 24, "drop_last": True}, ValueError, "batch_size 24 leaves no batch of 23 images"),
        ({"seed": -1}, ValueError, "Loader: seed must be at least 0, got -1"),
        ({"transforms": [3]}, TypeError, "a transform must be callable, got 3"),
    ],
)
def test_bad_settings(bad, error, message):
    with pytest.raises(error, match=message):
        Loader(**({"dataset": dataset(), "batch_size": 5} | bad))
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        Loader(dataset(), 5).rewind(-1)
