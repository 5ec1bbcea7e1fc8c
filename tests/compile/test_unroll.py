"""Loops written out and tests decided before Numba sees them."""

import os

import pytest

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    pytest.skip("the simulator runs loops as they are", allow_module_level=True)

from sccengine.kernels.cuda.unroll import static, unrolled

DEPTH = 3
SHADOWED = 0


def text_of(function):
    import inspect

    return inspect.getsource(function)


def test_a_loop_becomes_its_steps_and_a_decided_test_its_branch():
    width = 2

    @unrolled
    def function(values, out):
        for k in static(DEPTH):
            for j in static(k, width + 1):
                if j == k and width == 2:
                    out.append((k, j, values[k]))
                elif j > k + 1:
                    out.append("far")

    out = []
    function("abc", out)
    assert out == [(0, 0, "a"), "far", (1, 1, "b"), (2, 2, "c")]
    text = text_of(function)
    assert "for " not in text and "if " not in text


def test_what_is_known_at_run_time_only_stays():
    @unrolled
    def function(flag, values):
        SHADOWED = flag
        found = []
        for k in static(2):
            if SHADOWED:
                found.append(k)
            if values[k]:
                found.append("value")
            if len(values) > DEPTH:
                found.append("long")
        if DEPTH == 4:
            found.append("never")
        else:
            found.append("end")
        return found

    assert function(1, [0, 1]) == [0, 1, "value", "end"]
    assert function(0, [1, 0, 0, 0]) == ["value", "long", "long", "end"]
    assert "never" not in text_of(function)


def test_a_body_of_which_nothing_is_left():
    @unrolled
    def function(count):
        for i in range(count):
            if DEPTH == 4:
                return i
        for _ in static(0):
            count = 0
        return count

    assert function(5) == 5
