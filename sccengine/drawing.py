"""The look of all pictures, and two for notebooks: which channels a layer's filters read, and the training graph.

Colours are told apart by the colour-blind, and in print by their lightness. Drawn with Matplotlib, on axes or figures
that the caller shows or saves; ``plt.rcParams.update(STYLE)`` gives a notebook's own figures the same look.
"""

from __future__ import annotations

import numpy as np

from sccengine.autograd import Parameter, recorded

INK, FAINT, PAPER = "#333333", "#d9d9d9", "#efefef"
BLUE, ORANGE, GREEN, PURPLE = "#1f5a96", "#c46a1b", "#2e8b6f", "#9b5c92"
PALE_BLUE, PALE_ORANGE = "#b4c9de", "#ecceb1"
#: Okabe and Ito's, for many series; each has a marker of its own besides.
OKABE_ITO = {
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "orange": "#e69f00",
    "sky": "#56b4e9",
}

STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

#: What the colours of ``draw_windows`` mean, for a legend.
WINDOW_COLOURS = {"read": BLUE, "read, round the end": ORANGE, "a window that came before": PALE_BLUE}

_COLUMN, _ROW = 1.75, 0.86  # inches from one box of a graph to the next
_BOX = (1.22, 0.62)


def tidy(axes, grid="y"):
    """No box, and faint lines across for the ticks of "y", "x" or "both"."""
    axes.grid(axis=grid, color=FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def draw_windows(axes, windows):
    """Draw a ChannelWindows on Matplotlib axes: one row a filter, one column a channel, a cell where it is read.

    Filter f and channel c have their cell at [c, c + 1] x [f, f + 1]. Windows are pale where an earlier filter read the
    same one; see WINDOW_COLOURS.
    """
    from matplotlib.colors import ListedColormap

    read = windows.mask()
    round_the_end = read & (np.arange(windows.in_channels) < windows.starts[:, None])
    repeated = np.ones(windows.out_channels, bool)
    repeated[np.unique(windows.starts, return_index=True)[1]] = False
    cells = read * (1 + round_the_end + 2 * repeated[:, None])
    colours = ListedColormap([PAPER, BLUE, ORANGE, PALE_BLUE, PALE_ORANGE])
    axes.pcolormesh(cells, cmap=colours, vmin=0, vmax=4, edgecolors="white", linewidth=0.8)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)


def draw_graph(result, names=None):
    """A figure of the training graph that ``result`` is the end of: forward goes from left to right.

    A filled box is a recorded operation, with the shape of its result and how much it keeps for backward. A framed one
    is a leaf: blue where it gets a gradient, dashed where it is a constant. ``names``: leaves by name, as in
    ``dict(model.named_parameters())``.

    Raises ValueError where nothing was recorded, or backward has freed the graph.
    """
    from matplotlib.figure import Figure

    nodes = recorded(result)
    if not nodes or any(node.released for node in nodes):
        raise ValueError("draw_graph: no graph stands behind this tensor: it is a leaf, or backward has freed it")
    names = {id(tensor): name for name, tensor in (names or {}).items()}
    shapes = {t.creator: t.shape for node in nodes for t in node.inputs if t is not None} | {
        result.creator: result.shape
    }
    places, leaves = _layout(nodes)
    wide, high = (max(place[axis] for place in places.values()) for axis in (0, 1))
    figure = Figure(figsize=((wide + 1) * _COLUMN, (high + 1) * _ROW + 0.3), facecolor="white", layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.5 * _COLUMN, (wide + 0.5) * _COLUMN), ylim=((high + 0.5) * _ROW, -0.5 * _ROW - 0.3))
    axes.axis("off")
    for node in nodes:
        for tensor in node.inputs:
            if tensor is not None:
                _draw_edge(axes, places[tensor.creator or (node, id(tensor))], places[node], tensor.requires_grad)
        kept = sum(array.nbytes for array in node.saved if array is not None)
        lines = [_shape(shapes[node]), f"keeps {kept:,} bytes" if kept else "keeps nothing"]
        title = node.name
        _draw_box(axes, places[node], title, lines, facecolor=BLUE, edgecolor=BLUE, color="white")
    for key, tensor in leaves.items():
        title = names.get(id(tensor), "parameter" if isinstance(tensor, Parameter) else "input")
        colour = BLUE if tensor.requires_grad else INK
        frame = {"linestyle": "-" if tensor.requires_grad else (0, (3, 2)), "linewidth": 1.4}
        _draw_box(axes, places[key], title, [_shape(tensor.shape)], "white", colour, colour, **frame)
    return figure


def _layout(nodes):
    """({node or leaf: (column, row)}, {leaf: tensor}); a leaf stands once for each operation that reads it.

    An operation stands one column right of the last one that it waits for, its leaves in the column before it: a first
    input beside it, parameters below.
    """
    places, leaves, taken = {}, {}, {}
    for node in nodes:
        before = [places[t.creator] for t in node.inputs if t is not None and t.creator is not None]
        column = 1 + max((place[0] for place in before), default=0)
        row = _free(taken, column, min((place[1] for place in before), default=0))
        places[node] = (column, row)
        for tensor in node.inputs:
            if tensor is not None and tensor.creator is None:
                key = (node, id(tensor))
                leaves[key] = tensor
                places[key] = (column - 1, _free(taken, column - 1, row))
    return places, leaves


def _free(taken, column, row):
    """The first free row of a column from `row` on, which is taken with this."""
    while row in taken.setdefault(column, set()):
        row += 1
    taken[column].add(row)
    return row


def _draw_box(axes, place, title, lines, facecolor, edgecolor, color, **frame):
    from matplotlib.patches import FancyBboxPatch

    x, y = place[0] * _COLUMN, place[1] * _ROW
    corner = (x - _BOX[0] / 2, y - _BOX[1] / 2)
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, *_BOX, boxstyle=style, fc=facecolor, ec=edgecolor, zorder=3, **frame))
    centred = {"color": color, "ha": "center", "va": "center", "zorder": 4}
    size = min(9, 9 * 13 / len(title))
    axes.text(x, y - 0.11 - 0.05 * (len(lines) > 1), title, weight="bold", size=size, **centred)
    axes.text(x, y + 0.12, "\n".join(lines), size=7, **centred)


def _draw_edge(axes, start, end, carries_gradient):
    (x0, y0), (x1, y1) = ((column * _COLUMN, row * _ROW) for column, row in (start, end))
    arrow = {
        "arrowstyle": "-|>",
        "color": INK if carries_gradient else "#9a9a9a",
        "lw": 1.1,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    begin, tip = (x0 + _BOX[0] / 2, y0), (x1 - _BOX[0] / 2, y1)
    if y0 != y1:
        arrow["connectionstyle"] = "arc,angleA=0,angleB=180,armA=12,armB=22,rad=8"
    elif end[0] - start[0] > 1:  # over the boxes between
        begin, tip = (x0, y0 - _BOX[1] / 2), (x1, y1 - _BOX[1] / 2)
        arrow["connectionstyle"] = "arc,angleA=90,angleB=90,armA=14,armB=14,rad=8"
    axes.annotate("", tip, begin, arrowprops=arrow, zorder=2)


def _shape(shape):
    return " x ".join(map(str, shape)) if shape else "one number"
