"""Pictures of measured rows: the roofline of a machine, and the ladder of an operator's kernels, as PNG files.

Colours are Okabe and Ito's, which the colour-blind can tell apart; every series has a marker of its own as well.
"""

from __future__ import annotations

import numpy as np

from sccengine.bench.rows import floor_of, geometric_mean, times
from sccengine.drawing import INK, OKABE_ITO, tidy
from sccengine.training.plots import save_figure
from sccengine.wording import counted

_COLOURS = (*OKABE_ITO.values(), "#8a8100", "#555555")
_MARKERS = "oDs^vP*X<>ph"
_PEER = "#777777"


def save_plots(rows, folder):
    """Draw the roofline and the ladder of each benchmark and device in ``rows``; the paths written in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = {}
    for row in rows:
        groups.setdefault((row["benchmark"], row["machine"]["device"]), []).append(row)
    paths = []
    for (name, device), chosen in groups.items():
        for kind, draw in (("roofline", draw_roofline), ("ladder", draw_ladder)):
            paths.append(folder / f"{kind}-{name}-{device}.png")
            save_figure(draw(chosen), paths[-1])
    return paths


def draw_roofline(rows):
    """A figure with a panel for each pass: GFLOP/s over operations per byte, a point for each case and candidate.

    Of a peer's expressions the fastest of each case is shown. The ceilings are the highest measured in these rows.
    """
    from matplotlib.figure import Figure

    passes = _passes(rows)
    figure = Figure(figsize=(5.4 * len(passes) + 2.2, 5.2), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(passes), sharey=True, squeeze=False)[0]
    peak = {name: max(row["ceilings"][name] for row in rows) / 1e9 for name in ("gemm", "memory", "cache")}
    points = {name: _points(rows, name) for name in _series(rows)}
    span = np.array([point for found in points.values() for point in found.values()])
    left, right = span[:, 0].min() / 2.5, span[:, 0].max() * 2.5
    left, right = min(left, peak["gemm"] / peak["cache"] / 3), max(right, peak["gemm"] / peak["memory"] * 3)
    handles, lines = {}, {}
    for axes, (direction, chosen) in zip(panels, passes.items()):
        for index, (name, found) in enumerate(points.items()):
            shown = np.array([found[id(row)] for row in chosen if id(row) in found])
            if len(shown):
                colour, marker = _look(name, index)
                (handles[name],) = axes.plot(
                    *shown.T, marker, color=colour, ms=6.5, mec="white", mew=0.6, alpha=0.9, zorder=4, label=name
                )
        axes.set(xscale="log", yscale="log", xlim=(left, right), xlabel="operations per byte (each array moved once)")
        axes.set_ylim(min(span[:, 1].min() / 2, peak["memory"] * left / 2), peak["gemm"] * 1.7)
        lines = _draw_ceilings(axes, peak, left, right)
        axes.set_title(direction, color=INK, fontsize=10, loc="left")
        tidy(axes, "both")
        axes.minorticks_off()
    panels[0].set_ylabel("GFLOP/s")
    handles = {**lines, **handles}
    figure.legend(handles.values(), handles, loc="outside right center", frameon=False, labelcolor=INK, fontsize=9)
    figure.suptitle(_title("Roofline", rows), color=INK, fontsize=11)
    return figure


def _draw_ceilings(axes, peak, left, right):
    """The lines by their text in the legend."""
    handles = {}
    for name, style in (("cache", "--"), ("memory", "-")):
        x = np.array([left, peak["gemm"] / peak[name], right])
        text = f"{name} {peak[name]:.3g} GB/s"
        (handles[text],) = axes.plot(x, np.minimum(peak[name] * x, peak["gemm"]), style, color=INK, lw=1.3, zorder=2)
    axes.annotate(
        f"matrix product {peak['gemm']:.3g} GFLOP/s",
        (right, peak["gemm"]),
        xytext=(-4, 4),
        textcoords="offset points",
        color=INK,
        fontsize=8.5,
        ha="right",
    )
    return handles


def draw_ladder(rows):
    """A figure with a panel for each pass: bars of time over floor, the engine's candidates in their own order.

    A bar is the geometric mean over the cases, its line the range of them. 1 is the floor: nothing can be faster.
    """
    from matplotlib.figure import Figure

    passes = _passes(rows)
    names = _series(rows)[::-1]
    size = (4.6 * len(passes) + 2.4, 0.42 * len(names) + 1.9)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(passes), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (direction, chosen) in zip(panels, passes.items()):
        axes.axvline(1, color=INK, lw=1.4, zorder=3)
        for height, name in enumerate(names):
            slower = [_slower(row, name) for row in chosen]
            slower = [value for value in slower if value is not None]
            if not slower:
                axes.text(1.08, height, "not timed", va="center", color=INK, fontsize=8.5)
                continue
            mean = geometric_mean(slower)
            colour, _ = _look(name, 0 if name.startswith("kernels ") else 1)
            axes.barh(height, mean - 1, left=1, height=0.62, color=colour, alpha=0.85, zorder=2)
            axes.plot([min(slower), max(slower)], [height, height], color=INK, lw=1.1, zorder=3, solid_capstyle="butt")
            missing = f", {len(slower)} of {len(chosen)} cases" if len(slower) < len(chosen) else ""
            label = f"{_digits(mean)}x" + (f", {_milliseconds(chosen[0], name)}" if len(chosen) == 1 else missing)
            axes.annotate(
                label,
                (max(mean, *slower), height),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=8.5,
            )
        axes.set_xscale("log")
        axes.set_xlabel("time / floor")
        axes.set_title(direction, color=INK, fontsize=10, loc="left")
        axes.xaxis.set_major_formatter(
            lambda value, _: _digits(value) if value < 1e5 else f"$10^{{{np.log10(value):.0f}}}$"
        )
        tidy(axes, "x")
        axes.minorticks_off()
    worst = max(value for row in rows for name in names if (value := _slower(row, name)) is not None)
    panels[0].set_xlim(0.8, worst * 3.2)
    panels[0].set_ylim(-0.6, len(names) - 0.4)
    panels[0].set_yticks(range(len(names)), names)
    figure.suptitle(_title("Kernel ladder", rows), color=INK, fontsize=11)
    return figure


def _passes(rows):
    found = {}
    for row in rows:
        direction = {"both": "forward + backward", None: ""}.get(row["case"].get("pass"), row["case"].get("pass"))
        found.setdefault(direction, []).append(row)
    return found


def _series(rows):
    """The engine's candidates: kernels in the order of VARIANTS, then what users call, then the best of each peer."""
    entries = {name: entry["side"] for row in rows for name, entry in row["candidates"].items()}
    engine = sorted((name for name, side in entries.items() if side == "engine"), key=_is_no_kernel)
    peers = [f"best of {side}" for side in dict.fromkeys(entries.values()) if side != "engine"]
    found = [name for name in (*engine, *peers) if any(_seconds(row, name) for row in rows)]
    if not found:
        raise ValueError("nothing to draw: no candidate in these rows was timed without being refused")
    return found


def _is_no_kernel(name):
    return not name.startswith("kernels ")


def _seconds(row, name):
    """A series' median in a case, None where it has none."""
    side = name.removeprefix("best of ")
    if side == name:
        return times(row, "engine").get(name)
    return min(times(row, side).values(), default=None)


def _points(rows, name):
    """{id of row: (operations per byte, GFLOP/s)}"""
    return {
        id(row): (row["work"]["operations"] / row["work"]["bytes"], row["work"]["operations"] / seconds / 1e9)
        for row in rows
        if (seconds := _seconds(row, name))
    }


def _slower(row, name):
    seconds = _seconds(row, name)
    return seconds and seconds / floor_of(row, row["headline"])


def _milliseconds(row, name):
    return f"{_digits(1e3 * _seconds(row, name))} ms"


def _digits(value):
    """Three digits that count, and no exponent."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def _look(name, index):
    colour = _PEER if name.startswith("best of ") else _COLOURS[index % len(_COLOURS)]
    return colour, _MARKERS[index % len(_MARKERS)]


def _title(what, rows):
    machine = rows[0]["machine"]
    processor = machine.get("gpu") or f"{machine['processor']}, {machine['cores']} cores"
    name, date = rows[0]["benchmark"], rows[0]["date"][:10]
    return f"{what} of {name}: {counted(len(rows), 'case')}, float32\n{processor}, {date}"
