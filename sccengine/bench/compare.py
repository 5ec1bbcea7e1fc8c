"""Two files of rows, A and B: by how much B is faster, case by case, and how sure that is.

A ratio is A's median over B's: above 1, B is faster. Its 95 % interval comes from drawing the samples of each again and
again (bootstrap), in blocks of neighbours because these are alike. Rows without samples are taken as normal with the
standard error that they state. The interval of a geometric mean holds the cases fixed and draws all of them.

An interval covers the spread within the two runs. What changed between them, another clock rate or a busier machine, is
in the ratio: candidates whose code did not change show how much that is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sccengine.bench import tables
from sccengine.bench.case import name_of

_DRAWS = 2000
_BLOCK = 5


@dataclass(frozen=True)
class Ratio:
    """A's median over B's, of one candidate in one case, or the geometric mean over cases."""

    benchmark: str
    case: str
    candidate: str
    mode: str
    value: float
    low: float
    high: float

    def verdict(self):
        """Which is faster, where the interval leaves no doubt."""
        return "B is faster" if self.low > 1 else "A is faster" if self.high < 1 else ""


@dataclass(frozen=True)
class Ratios:
    """ratios by case; means by candidate; differences: lines on machine, versions, options; unpaired: lines."""

    ratios: list
    means: list
    differences: list
    unpaired: list

    def as_dict(self):
        """Plain values, for JSON."""
        return {
            "ratios": [vars(ratio) for ratio in self.ratios],
            "geometric_means": [vars(mean) for mean in self.means],
            "differences": self.differences,
            "unpaired": self.unpaired,
        }

    def __str__(self):
        lines = [f"differs: {line}" for line in self.differences] + [f"left out: {line}" for line in self.unpaired]
        width = max((len(ratio.case) for ratio in (*self.ratios, *self.means)), default=4)
        names = max((len(ratio.candidate) for ratio in self.ratios), default=9)
        lines.append(f"{'case':<{width}}  {'candidate':<{names}}  {'cache':<5}  A / B  95 % interval")
        for ratio in (*self.ratios, *self.means):
            lines.append(
                f"{ratio.case:<{width}}  {ratio.candidate:<{names}}  {ratio.mode:<5}  {ratio.value:5.3f}  "
                f"{ratio.low:.3f} .. {ratio.high:.3f}  {ratio.verdict()}".rstrip()
            )
        return "\n".join(lines)


def compare(a, b):
    """The Ratios of two lists of rows. ValueError where they have no case and candidate in common."""
    random = np.random.default_rng(0)
    first, second = _by_case(a), _by_case(b)
    unpaired = [f"{_label(key)}: only in A" for key in first if key not in second]
    unpaired += [f"{_label(key)}: only in B" for key in second if key not in first]
    ratios, logs = [], {}
    for key in first:
        if key not in second:
            continue
        ours, theirs = first[key]["candidates"], second[key]["candidates"]
        for name in dict.fromkeys([*ours, *theirs]):
            problem = _problem(ours.get(name), "A") or _problem(theirs.get(name), "B")
            mode = None if problem else _mode(first[key], ours[name], theirs[name])
            if mode is None:
                unpaired.append(f"{_label(key)}, {name}: {problem or 'measured in different modes'}")
                continue
            drawn = np.log(_medians(ours[name][mode], random)) - np.log(_medians(theirs[name][mode], random))
            value = ours[name][mode]["p50"] / theirs[name][mode]["p50"]
            benchmark, case = first[key]["benchmark"], name_of(first[key]["case"])
            ratios.append(_ratio(benchmark, case, name, mode, value, drawn))
            logs.setdefault((benchmark, name, mode), []).append((math.log(value), drawn))
    if not ratios:
        raise ValueError("the files have no case in common with a candidate that was timed in both")
    means = []
    for (benchmark, name, mode), entries in logs.items():
        values, drawn = zip(*entries)
        case = f"{benchmark}: geometric mean of {len(entries)}"
        means.append(_ratio(benchmark, case, name, mode, math.exp(np.mean(values)), np.mean(drawn, axis=0)))
    return Ratios(ratios, means, _differences(a[0], b[0]), unpaired)


def _by_case(rows):
    """Rows by what they measured; of several of the same case the last."""
    return {(row["benchmark"], *sorted(row["case"].items())): row for row in rows}


def _label(key):
    return f"{key[0]} {name_of(dict(key[1:]))}"


def _problem(entry, side):
    if entry is None:
        return f"not in {side}"
    return None if entry["status"] == "ok" else f"{entry['status']} in {side}"


def _mode(row, ours, theirs):
    """The headline mode if both have it, else the first that both have."""
    return next((mode for mode in (row["headline"], *tables.MODES) if mode in ours and mode in theirs), None)


def _medians(stats, random):
    """What the median might have been, _DRAWS times."""
    if "seconds" not in stats:
        return stats["p50"] * np.exp(stats["noise"] * random.standard_normal(_DRAWS))
    seconds = np.array(stats["seconds"])
    block = min(_BLOCK, max(1, len(seconds) // 3))
    starts = random.integers(len(seconds), size=(_DRAWS, -(-len(seconds) // block), 1))
    drawn = (starts + np.arange(block)).reshape(_DRAWS, -1)[:, : len(seconds)] % len(seconds)
    return np.median(seconds[drawn], axis=1)


def _ratio(benchmark, case, name, mode, value, logs):
    low, high = np.exp(np.quantile(logs, (0.025, 0.975)))
    return Ratio(benchmark, case, name, mode, value, float(low), float(high))


def _differences(a, b):
    found = []
    for part in ("machine", "versions", "options"):
        for name in dict.fromkeys([*a[part], *b[part]]):
            ours, theirs = a[part].get(name, "absent"), b[part].get(name, "absent")
            if ours != theirs:
                found.append(f"{part}, {name}: {ours} in A, {theirs} in B")
    return found
