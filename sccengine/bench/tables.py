"""Rows as text: each case when it is measured, and what stands at the end."""

from __future__ import annotations

from sccengine.bench.case import name_of
from sccengine.bench.rows import floor_of, geometric_mean, ratio, rivals, times
from sccengine.wording import counted

MODES = ("warm", "cold", "wall", "host")
_HEADINGS = ("", "cache", "median ms", "20 % .. 80 % ms", "least ms", "of floor", "GFLOP/s", "GB/s")
_WIDTHS = (34, 5, 10, 20, 9, 8, 8, 7)


def machine_line(described, threads, peak):
    """The machine and its measured ceilings."""
    name = described.get("gpu") or described["processor"]
    return (
        f"{name}, {described['cores']} cores, {threads} threads. Measured ceilings: {peak['gemm'] / 1e9:.0f} GFLOP/s, "
        f"memory {peak['memory'] / 1e9:.1f} GB/s, cache {peak['cache'] / 1e9:.0f} GB/s"
    )


def case_table(row):
    """A case: milliseconds, spread, and how near to the floor, a line for each candidate and mode."""
    work, floor = row["work"], row["floor"]
    lines = [
        f"{row['benchmark']}  {name_of(row['case'])}",
        f"  {work['operations'] / 1e6:.4g} MFLOP, {work['bytes'] / 1e6:.4g} MB: "
        f"floor {floor['warm'] * 1e3:.4g} ms warm, {floor['cold'] * 1e3:.4g} ms cold",
    ]
    load, cores = row["load"], row["machine"]["cores"]
    if load and load[0] > cores + 1 and row["options"]["clock"] == "wall":
        lines.append(f"  load {load[0]:.1f} on {cores} cores: others' work is in these times")
    lines.append(_line(_HEADINGS))
    for name, entry in row["candidates"].items():
        if entry["status"] != "ok":
            lines.append(f"  {name:<{_WIDTHS[0]}}  {entry['status']}")
            continue
        lines += [_line(_cells(name, mode, entry[mode], row)) for mode in MODES if mode in entry]
    return "\n".join(lines)


def _cells(name, mode, stats, row):
    spread = [f"{stats['p50'] * 1e3:.3f}", f"{stats['p20'] * 1e3:.3f} .. {stats['p80'] * 1e3:.3f}"]
    spread.append(f"{stats['least'] * 1e3:.3f}")
    if mode == "host":  # until the launches are queued: no arithmetic is waited for
        return [name, mode, *spread, "", "", ""]
    rates = [row["work"][key] / stats["p50"] / 1e9 for key in ("operations", "bytes")]
    return [name, mode, *spread, f"{floor_of(row, mode) / stats['p50']:.1%}", *(f"{rate:.1f}" for rate in rates)]


def _line(cells):
    first, *others = (f"{cell:{'<' if i < 2 else '>'}{width}}" for i, (cell, width) in enumerate(zip(cells, _WIDTHS)))
    return "  " + "  ".join([first, *others]).rstrip()


def summary(rows, headline):
    """What stands at the end of one benchmark: its share of the floor, and the best rival's time over its own."""
    lines = []
    compared = any(rivals(row) for row in rows)
    if compared:
        lines.append(f"{'case':<48} {headline:>12} {'rival':>12} {'ratio':>7}  best rival")
        lines += [_against_the_best(row, headline) for row in rows]
    for direction in dict.fromkeys(row["case"].get("pass", "") for row in rows):
        chosen = [row for row in rows if row["case"].get("pass", "") == direction]
        what = f"{direction}: " if direction else ""
        shares = [_share(row, headline) for row in chosen if _share(row, headline)]
        if shares:
            mean = geometric_mean(shares)
            lines.append(
                f"{what}{headline} at {mean:.1%} of the floor's rate (geometric mean of {counted(len(shares), 'case')})"
            )
        for statistic in ("p50", "least") if compared else ():
            ratios = [q for row in chosen if (q := ratio(row, headline, statistic)) is not None]
            if ratios:
                lines.append(
                    f"{what}best rival / {headline}, {statistic}: {geometric_mean(ratios):.2f} "
                    f"({sum(q > 1 for q in ratios)} of {counted(len(ratios), 'case')} faster)"
                )
    return "\n".join(lines)


def _share(row, headline):
    """The floor over a time; None of host times, in which no arithmetic is waited for."""
    seconds = _headline(row, headline)
    return None if seconds is None or row["headline"] == "host" else floor_of(row, row["headline"]) / seconds


def _against_the_best(row, headline):
    theirs = rivals(row)
    best = min(theirs, key=theirs.get, default=None)
    quotient = ratio(row, headline)
    return (
        f"{name_of(row['case']):<48} {_milliseconds(_headline(row, headline)):>12} "
        f"{_milliseconds(theirs.get(best)):>12} {'-' if quotient is None else f'{quotient:.2f}':>7}  {best or '-'}"
    )


def _headline(row, candidate):
    return times(row, "engine").get(candidate)


def _milliseconds(seconds):
    return "-" if seconds is None else f"{seconds * 1e3:.3f} ms"
