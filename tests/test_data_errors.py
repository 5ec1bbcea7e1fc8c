"""The one form in which a bad file is reported."""

import pickle

import pytest

import sccengine
from sccengine.data.errors import DataError, mismatch


def test_message_says_file_expected_and_found():
    error = mismatch("a/b.bin", "10 bytes", "7 bytes")
    assert str(error) == "a/b.bin: expected 10 bytes, found 7 bytes"
    assert str(mismatch("x", "a", "b", "Try c")) == "x: expected a, found b. Try c"


def test_it_is_a_value_error_with_the_package_s_name():
    assert sccengine.DataError is DataError
    with pytest.raises(ValueError):
        raise mismatch("x", "a", "b")


def test_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(mismatch("x", "a", "b")))
    assert type(error) is DataError and str(error) == "x: expected a, found b"
