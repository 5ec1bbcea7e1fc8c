"""Which cases and candidates of a benchmark are timed: --axis, --only and --variant."""

from __future__ import annotations

import fnmatch

KERNELS = "kernels "  # a candidate of this name and a variant's is the variant's bare kernels


def select(benchmark, device, axes=(), only=(), variants=(), small=False, peers=None):
    """Cases of a benchmark, built.

    axes       texts NAME=VALUE[,VALUE]: cases whose axis has one of these values; a value that none has is put into all
    only       globs of candidates' names
    variants   names of kernel variants: only their bare kernels
    peers      None, or (axes, device) -> more candidates

    Raises ValueError for what names nothing, or for axes that do not go together.
    """
    problems = benchmark.small if small else benchmark.problems
    for condition in axes:
        problems = choose(benchmark.name, problems, condition)
    globs = [*only, *(KERNELS + name for name in variants)]
    cases = []
    for problem in problems:
        case = benchmark.case(problem, device)
        case.candidates.extend(peers(problem, device) if peers else ())
        _check_variants(benchmark.name, case, variants)
        if globs:
            case.candidates[:] = [c for c in case.candidates if any(fnmatch.fnmatchcase(c.name, g) for g in globs)]
        if case.candidates:
            cases.append(case)
    if not cases:
        raise ValueError(f"{benchmark.name}: no candidate is called {' or '.join(only)}; --list shows what there is")
    return cases


def choose(name, problems, condition):
    """Problems (dicts of axes) that a text NAME=VALUE[,VALUE] leaves, or makes."""
    axis, equals, words = condition.partition("=")
    if not equals or axis not in problems[0]:
        raise ValueError(f"--axis {condition!r}: {name} needs NAME=VALUE with a NAME of {', '.join(problems[0])}")
    chosen = []
    for word in words.split(","):
        value = _value(condition, [problem[axis] for problem in problems], word)
        found = [problem for problem in problems if problem[axis] == value]
        for problem in found or [{**problem, axis: value} for problem in problems]:
            if problem not in chosen:
                chosen.append(problem)
    return chosen


def rows_with(rows, axes):
    """Measured rows whose axes have one of the values of each text NAME=VALUE[,VALUE]. ValueError where none has."""
    for condition in axes:
        axis, _, words = condition.partition("=")
        rows = [row for row in rows if str(row["case"].get(axis)) in words.split(",")]
        if not rows:
            raise ValueError(f"--axis {condition!r}: no row of the file has this")
    return rows


def _value(condition, known, word):
    """A word as a value of the kind that the axis has."""
    kind = type(known[0])
    if kind is str:
        if word not in known:
            raise ValueError(f"--axis {condition!r}: {word!r} is none of {', '.join(dict.fromkeys(known))}")
        return word
    try:
        value = kind(word)
    except ValueError:
        sort = "a whole number" if kind is int else "a number"
        raise ValueError(f"--axis {condition!r}: {word!r} is not {sort}") from None
    if kind is int and value < 1:
        raise ValueError(f"--axis {condition!r}: must be at least 1, got {word}")
    return value


def _check_variants(name, case, wanted):
    there = [c.name.removeprefix(KERNELS) for c in case.candidates if c.name.startswith(KERNELS)]
    for variant in wanted:
        if variant not in there:
            said = f"there are {', '.join(there)}" if there else "it has only one way"
            raise ValueError(f"--variant {variant!r}: {name} has no such variant on this device: {said}")
