"""Fronts and hypervolumes against definitions spelled out: every pair compared, every cell of a lattice counted."""

import itertools
import math
import random

import pytest

from sccengine.exploration import OBJECTIVES, Design, Trial
from sccengine.exploration.pareto import dominates, front, front_of, hypervolume, hypervolumes, reference_point

DOWN, UP = "minimize", "maximize"


def points_of(seed, count, dimensions, sides=6):
    """Points on a lattice with few values a side, so that ties and equal points are common."""
    draws = random.Random(seed)
    return [tuple(draws.randrange(1, sides) for _ in range(dimensions)) for _ in range(count)]


def beaten(a, b, directions):
    """Whether b is beaten by a, by the definition."""
    better = [(x > y) if way == UP else (x < y) for x, y, way in zip(a, b, directions)]
    worse = [(x < y) if way == UP else (x > y) for x, y, way in zip(a, b, directions)]
    return any(better) and not any(worse)


@pytest.mark.parametrize("directions", [(DOWN,), (UP, DOWN), (DOWN, DOWN, UP), (UP, UP, DOWN, DOWN)])
def test_dominance_and_front_are_those_of_the_definition(directions):
    for seed in range(20):
        points = points_of(seed, 15, len(directions))
        for a, b in itertools.product(points, repeat=2):
            assert dominates(a, b, directions) == beaten(a, b, directions)
        expected = [i for i, b in enumerate(points) if not any(beaten(a, b, directions) for a in points)]
        assert front(points, directions) == expected


def test_equal_points_are_both_on_the_front():
    assert front([(1, 2), (1, 2), (2, 2)], (DOWN, DOWN)) == [0, 1]
    assert not dominates((1, 2), (1, 2), (DOWN, DOWN))


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_points_with_missing_values_take_no_part(missing):
    points = [(1.0, missing), (5.0, 5.0), (missing, 0.0)]
    assert front(points, (DOWN, DOWN)) == [1]
    assert not dominates(points[0], points[1], (DOWN, DOWN)) and not dominates(points[1], points[0], (DOWN, DOWN))
    assert hypervolume(points, (6, 6), (DOWN, DOWN)) == 1.0
    assert front(points[:1], (DOWN, DOWN)) == [] and front([], (DOWN, DOWN)) == []


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_hypervolume_is_the_number_of_lattice_cells_that_are_beaten(dimensions):
    sides = 6
    for seed in range(12):
        points = points_of(seed, 9, dimensions, sides)
        reference = (sides,) * dimensions
        cells = itertools.product(range(sides), repeat=dimensions)
        beaten_cells = sum(any(all(p <= c for p, c in zip(point, cell)) for point in points) for cell in cells)
        assert hypervolume(points, reference, [DOWN] * dimensions) == beaten_cells
        # The same picture upside down in every other objective.
        ways = [UP if i % 2 else DOWN for i in range(dimensions)]
        turned = [tuple(-x if way == UP else x for x, way in zip(point, ways)) for point in points]
        corner = tuple(-x if way == UP else x for x, way in zip(reference, ways))
        assert hypervolume(turned, corner, ways) == beaten_cells


def test_hypervolume_by_monte_carlo():
    draws = random.Random(1)
    points = [(draws.random(), draws.random(), draws.random()) for _ in range(30)]
    samples = [(draws.random(), draws.random(), draws.random()) for _ in range(20_000)]
    share = sum(any(all(p <= s for p, s in zip(point, sample)) for point in points) for sample in samples) / 20_000
    assert hypervolume(points, (1, 1, 1), [DOWN] * 3) == pytest.approx(share, abs=0.015)


def test_points_behind_the_reference_add_nothing():
    assert hypervolume([(1, 9), (7, 1), (8, 8)], (8, 8), (DOWN, DOWN)) == 7
    assert hypervolume([], (8, 8), (DOWN, DOWN)) == 0
    assert hypervolume([(8, 1)], (8, 8), (DOWN, DOWN)) == 0


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_hypervolumes_are_those_of_the_first_points(dimensions):
    directions = [DOWN if i % 2 else UP for i in range(dimensions)]
    reference = [5.5 if i % 2 else 1.5 for i in range(dimensions)]
    for seed in range(5):
        points = [*points_of(seed, 12, dimensions), (None,) * dimensions, *points_of(seed + 50, 3, dimensions)]
        each = [hypervolume(points[: count + 1], reference, directions) for count in range(len(points))]
        assert hypervolumes(points, reference, directions) == pytest.approx(each)


def test_a_better_point_never_lowers_the_hypervolume():
    points = points_of(3, 12, 3)
    volumes = [hypervolume(points[:count], (6, 6, 6), [DOWN] * 3) for count in range(13)]
    assert volumes == sorted(volumes)


def test_the_reference_is_worse_than_every_point():
    assert reference_point([(0.5, 10), (0.9, 30), (None, 1)], (UP, DOWN)) == pytest.approx((0.46, 32))
    assert reference_point([(0.5, 0)], (UP, DOWN)) == pytest.approx((0.45, 0.1))
    assert reference_point([(None, 0)], (UP, DOWN)) is None


def test_bad_questions():
    with pytest.raises(ValueError, match="'maximize' or 'minimize', got 'up'"):
        front([(1, 2)], ("up", DOWN))
    with pytest.raises(ValueError, match="3 values, there are 2 objectives"):
        front([(1, 2, 3)], (UP, DOWN))
    with pytest.raises(ValueError, match="reference"):
        hypervolume([(1, 2)], (1, None), (UP, DOWN))


def test_only_finished_trials_are_on_a_front():
    objectives = [OBJECTIVES["accuracy"], OBJECTIVES["params"]]
    trials = [
        Trial(0, Design(), "finished", {"accuracy": 0.9, "params": 100}),
        Trial(1, Design(), "stopped", {"accuracy": 0.99, "params": 1}),
        Trial(2, Design(), "finished", {"accuracy": 0.8, "params": 200}),
        Trial(3, Design(), "finished", {"accuracy": 0.7, "params": 50}),
        Trial(4, Design(), "finished", {"params": 1}),
    ]
    assert [trial.number for trial in front_of(trials, objectives)] == [0, 3]
