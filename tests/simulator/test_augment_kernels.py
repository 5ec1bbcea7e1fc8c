"""The random words of the augmentation kernel are NumPy's, in all lanes, at the ends of the range of every input."""

import numpy as np
import pytest

from sccengine.kernels.cuda import philox

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar:RuntimeWarning")

LAST = 2**64 - 1


@pytest.mark.parametrize("key", [(0, 0), (LAST, LAST), (0x123456789ABCDEF0, 2)])
@pytest.mark.parametrize("counter", [(0, 0), (LAST, 2**63), (3, 70000)])
def test_words_are_those_of_numpy(key, counter):
    stream = np.random.Philox(key=np.array(key, np.uint64), counter=np.array((0, 0, *counter), np.uint64))
    address = [np.uint64(number) for number in (*key, *counter)]
    got = [philox.philox_word(*address, np.int32(i)) for i in range(9)]
    assert all(type(word) is np.uint64 for word in got)
    assert got == stream.random_raw(9).tolist()


def test_a_word_far_along_the_stream():
    stream = np.random.Philox(key=np.array((5, 2), np.uint64), counter=np.array((0, 0, 1, 1), np.uint64))
    stream.advance((2**31 - 4) // 4)
    address = [np.uint64(number) for number in (5, 2, 1, 1)]
    assert [philox.philox_word(*address, np.int32(2**31 - 4 + i)) for i in range(4)] == stream.random_raw(4).tolist()


@pytest.mark.parametrize("a, b", [(LAST, LAST), (2**32, 2**32), (2**63 + 1, 2**32 - 1), (0, LAST)])
def test_upper_half_of_a_product(a, b):
    assert int(philox.multiply_high(np.uint64(a), np.uint64(b))) == a * b >> 64
