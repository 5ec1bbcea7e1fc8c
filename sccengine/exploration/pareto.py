"""Which points no other point beats, and how much of the space they beat together.

A point is a sequence of numbers, one for each objective; `directions` says "maximize" or "minimize" for each. A point
dominates another if it is nowhere worse and somewhere better; so equal points do not dominate each other, and both are
on the front. A point with a value that is None, NaN or infinite takes no part: it dominates nothing, is dominated by
nothing, is on no front and adds no volume.
"""

from __future__ import annotations

import math

DIRECTIONS = ("maximize", "minimize")


def dominates(a, b, directions):
    """Whether point `a` is nowhere worse than point `b` and somewhere better."""
    a, b = _lowered([a, b], directions)
    return a is not None and b is not None and _beats(a, b)


def front(points, directions):
    """The positions of the points that no other dominates, in order; of equal ones, all.

    Raises ValueError for an unknown direction, or points of another length.
    """
    points = _lowered(points, directions)
    known = {point for point in points if point is not None}
    best = set(_undominated(known))
    return [position for position, point in enumerate(points) if point in best]


def front_of(trials, objectives):
    """The finished trials on the front of several objectives (exploration.Objective), in order."""
    trials = [trial for trial in trials if trial.state == "finished"]
    points = [[trial.values.get(objective.name) for objective in objectives] for trial in trials]
    return [trials[position] for position in front(points, [objective.direction for objective in objectives])]


def hypervolume(points, reference, directions):
    """The volume of all that is dominated by one of the points and better than `reference`, a point: exact, >= 0.

    In the product of the objectives' units; a point that is not better than the reference everywhere adds nothing.
    After While, Bradstreet and Barone, A Fast Way of Calculating Exact Hypervolumes (2012): each point's own share is
    its box less what of it the points after it dominate, a problem of the same kind with fewer points.
    """
    points, reference = _before_reference(points, reference, directions)
    return _volume(_undominated({point for point in points if point is not None}), reference)


def hypervolumes(points, reference, directions):
    """The hypervolumes of the first point, of the first two, and so on: cheaper than one by one."""
    points, reference = _before_reference(points, reference, directions)
    volumes, kept, volume = [], [], 0.0
    for point in points:
        if point is not None and not any(other == point or _beats(other, point) for other in kept):
            volume += _share(point, kept, reference)
            kept = [other for other in kept if not _beats(point, other)] + [point]
        volumes.append(volume)
    return volumes


def reference_point(points, directions, margin=0.1):
    """A reference for `hypervolume`: the worst value of each objective, worse by `margin` of the range still.

    Where all are equal, by `margin` of the value, or of 1 where that is 0. None where no point is whole.
    """
    points = [point for point in _lowered(points, directions) if point is not None]
    if not points:
        return None
    worst = []
    for values, direction in zip(zip(*points), directions):
        spread = max(values) - min(values) or abs(max(values)) or 1.0
        worst.append(_sign(direction) * (max(values) + margin * spread))
    return tuple(worst)


def _sign(direction):
    if direction not in DIRECTIONS:
        raise ValueError(f"a direction is 'maximize' or 'minimize', got {direction!r}")
    return -1.0 if direction == "maximize" else 1.0


def _lowered(points, directions):
    """The points as tuples of which less is better everywhere; None for one that takes no part."""
    signs = [_sign(direction) for direction in directions]
    lowered = []
    for point in points:
        point = tuple(point)
        if len(point) != len(signs):
            raise ValueError(f"a point has {len(point)} values, there are {len(signs)} objectives: {point}")
        whole = all(value is not None and math.isfinite(value) for value in point)
        lowered.append(tuple(sign * value for sign, value in zip(signs, point)) if whole else None)
    return lowered


def _before_reference(points, reference, directions):
    """The lowered points, None for those that are not better than the reference everywhere, and the reference."""
    *points, reference = _lowered([*points, reference], directions)
    if reference is None:
        raise ValueError("the reference point of a hypervolume must be finite in every objective")
    inside = (point is not None and all(x < r for x, r in zip(point, reference)) for point in points)
    return [point if within else None for point, within in zip(points, inside)], reference


def _beats(a, b):
    return a != b and all(x <= y for x, y in zip(a, b))


def _undominated(points):
    """Those of different points that no other dominates; one that does comes before in their sorted order."""
    kept = []
    for point in sorted(points):
        if not any(_beats(other, point) for other in kept):
            kept.append(point)
    return kept


def _volume(points, reference):
    """The volume between sorted points that do not dominate each other and the reference."""
    if not points:
        return 0.0
    if len(reference) == 1:
        return reference[0] - points[0][0]
    if len(reference) == 2:
        ceilings = [reference[1], *(point[1] for point in points)]
        return math.fsum((reference[0] - x) * (above - y) for (x, y), above in zip(points, ceilings))
    return math.fsum(_share(point, points[position + 1 :], reference) for position, point in enumerate(points))


def _share(point, others, reference):
    """The volume that a point dominates and none of the others does."""
    box = math.prod(r - x for x, r in zip(point, reference))
    return box - _volume(_undominated({tuple(map(max, point, other)) for other in others}), reference)
