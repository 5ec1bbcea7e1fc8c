"""Streams by address: the same everywhere, and apart from one another."""

import numpy as np
import pytest

from sccengine.data.counter import AUGMENTATION, ORDER, Draws, check_seed


def philox_block(counter, key):
    """Philox4x64-10 after Salmon et al. (2011), in Python integers."""
    mask = (1 << 64) - 1
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(b >> 64) ^ c[1] ^ k0, b & mask, (a >> 64) ^ c[3] ^ k1, a & mask]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return c


def test_words_are_philox_at_the_address():
    words = Draws(7, ORDER, 3, 5).words(8).tolist()
    # NumPy counts up before it makes a block.
    want = philox_block([1, 0, 5, 3], (7, ORDER)) + philox_block([2, 0, 5, 3], (7, ORDER))
    assert words == want


def test_every_part_of_the_address_matters():
    addresses = [(0, ORDER, 0, 0), (1, ORDER, 0, 0), (0, AUGMENTATION, 0, 0), (0, ORDER, 1, 0), (0, ORDER, 0, 1)]
    streams = {tuple(Draws(*address).words(4).tolist()) for address in addresses}
    assert len(streams) == len(addresses)


def test_calls_walk_along_one_stream():
    draws = Draws(2**64 - 1, ORDER)
    halves = np.concatenate([draws.words(5), draws.words(7)])
    assert np.array_equal(halves, Draws(2**64 - 1, ORDER).words(12))


def test_integers_follow_from_the_words():
    words = Draws(1, ORDER).words(1_000)
    got = Draws(1, ORDER).integers(1_000, 9)
    assert got.dtype == np.int64
    assert got.tolist() == [(int(word) >> 32) * 9 >> 32 for word in words]
    assert set(got.tolist()) == set(range(9))


def test_chances_are_exact_at_the_ends_and_fair_between():
    assert not Draws(0, ORDER).chances(2_000, 0).any()
    assert Draws(0, ORDER).chances(2_000, 1).all()
    assert abs(Draws(0, ORDER).chances(20_000, 0.3).mean() - 0.3) < 0.02


def test_permutation():
    order = Draws(4, ORDER, 2).permutation(100)
    assert sorted(order.tolist()) == list(range(100)) and order.tolist() != list(range(100))
    assert Draws(4, ORDER).permutation(0).tolist() == []


@pytest.mark.parametrize("seed, error", [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("1", TypeError)])
def test_bad_seeds(seed, error):
    with pytest.raises(error, match="Thing: seed must be"):
        check_seed(seed, "Thing")
    assert check_seed(np.int32(3), "Thing") == 3
