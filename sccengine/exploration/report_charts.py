"""The charts of report.html as inline SVG, coloured by the page's style sheet, so that they follow its light or dark
scheme. Every mark has a <title>, which browsers show when the pointer rests on it and screen readers read.

Drawn small (a phone is 390 px wide) and scaled up by the page.
"""

from __future__ import annotations

from html import escape

from sccengine.exploration.axes import (
    Axis,
    accuracy_axis,
    accuracy_place,
    accuracy_reach,
    cost_axis,
    cost_place,
    whole_axis,
)

WIDTH, HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 44
_MOST_LABELS = 14  # points of a front that have their trial's number beside them


def tradeoff_chart(findings, cost):
    """Accuracy by a cost: finished trials, stopped ones, and the front of the two, with its spread."""
    front = findings.front_against(cost)
    if not front:
        return ""
    shown = findings.trained(cost)
    x = cost_axis(cost, [trial.values[cost.name] for trial in shown])
    y = accuracy_axis([trial.values["accuracy"] for trial in shown if trial.state == "finished"])

    def place(trial):
        lies = accuracy_place(trial.values["accuracy"])
        return _x(x, cost_place(cost, trial.values[cost.name])), _y(y, max(lies, y.low))

    numbers = {trial.number for trial in front}
    marks = []
    for trial in shown:
        if trial.number not in numbers:
            words = f"trial {trial.number}, {trial.state}: {trial.design.name}, {_values(findings, trial)}"
            marks.append(_mark(trial.state, *place(trial), words))
    path = _staircase([place(trial) for trial in front])
    marks.append(f'<path class="line front" d="{path}"/>')
    for trial in front:
        if (reach := accuracy_reach(trial, y)) is not None:
            low, high = (_y(y, end) for end in reach)
            marks.append(f'<path class="reach" d="M{place(trial)[0]:.1f} {low:.1f}V{high:.1f}"/>')
        words = f"trial {trial.number}, on the front: {trial.design.name}, {_values(findings, trial)}"
        marks.append(_mark("front", *place(trial), words))
    if len(front) <= _MOST_LABELS:
        marks += [_label(*place(trial), trial.number) for trial in front]
    words = f"Test accuracy by {cost.label}: {len(front)} designs on the front, {len(shown)} trained"
    return _frame(x, y, "".join(marks), words)


def volume_chart(findings):
    """The hypervolume by trial; nothing with fewer than two finished trials."""
    volumes = findings.volumes
    if len(volumes) < 2:
        return ""
    x = whole_axis("trial", 0, volumes[-1][0])
    y = Axis("share of the box", 0, 1, tuple((place / 4, f"{25 * place}%") for place in range(5)))
    places = [(_x(x, number), _y(y, share)) for number, share in volumes]
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}" + "".join(f"H{a:.1f}V{b:.1f}" for a, b in places[1:])
    words = f"Hypervolume after each finished trial, from {volumes[0][1]:.0%} to {volumes[-1][1]:.0%} of the box"
    return _frame(x, y, f'<path class="line front" d="{path}"/>', words)


def curves_chart(findings):
    """Test accuracy by epoch: the front's trials, the other finished ones, and those that were stopped."""
    curves = [trial for trial in findings.trials if trial.curve and trial.state in ("finished", "stopped", "running")]
    if not curves:
        return ""
    x = whole_axis("epoch", 1, max(len(trial.curve) for trial in curves))
    y = accuracy_axis([value for trial in curves for value in trial.curve])
    front = {trial.number for trial in findings.front}
    marks = []
    for trial in sorted(curves, key=lambda trial: (trial.number in front, trial.state == "stopped")):
        kind = "front" if trial.number in front else trial.state
        places = [(_x(x, epoch), _y(y, accuracy_place(value))) for epoch, value in enumerate(trial.curve, 1)]
        words = escape(f"trial {trial.number}, {kind}: {trial.design.name}, {_values(findings, trial)}")
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        marks.append(f'<polyline class="curve {kind}" points="{points}"><title>{words}</title></polyline>')
        if kind == "stopped":
            marks.append(_mark("stopped", *places[-1], f"trial {trial.number} was stopped here"))
    return _frame(x, y, "".join(marks), f"Test accuracy by epoch of {len(curves)} trials")


def _values(findings, trial):
    return ", ".join(trial.text(one) for one in findings.objectives if one.name in trial.values)


def _x(axis, place):
    return _LEFT + axis.share(place) * (WIDTH - _LEFT - _RIGHT)


def _y(axis, place):
    return HEIGHT - _BOTTOM - axis.share(place) * (HEIGHT - _TOP - _BOTTOM)


def _staircase(places):
    """From the left up: what is between two points of a front is only as good as the cheaper of them."""
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    return path + "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:]) + f"H{WIDTH - _RIGHT}"


def _mark(kind, x, y, words):
    title = f"<title>{escape(words)}</title>"
    if kind == "stopped":
        return f'<path class="mark stopped" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8">{title}</path>'
    return f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{5 if kind == "front" else 4}">{title}</circle>'


def _label(x, y, number):
    left = x > WIDTH - 40
    kind = "number left" if left else "number"
    return f'<text x="{x - 9 if left else x + 8:.1f}" y="{y + 15:.1f}" class="{kind}">{number}</text>'


def _frame(x, y, marks, words):
    """The SVG around marks, with grid, ticks and labels."""
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">']
    bottom = HEIGHT - _BOTTOM
    for place, text in y.ticks:
        at = _y(y, place)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick left" x="{_LEFT - 6}" y="{at + 4:.1f}">{escape(text)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{WIDTH - _RIGHT}"/>')
    for place, text in x.ticks:
        at = _x(x, place)
        parts.append(f'<path class="axis" d="M{at:.1f} {bottom}v4"/>')
        parts.append(f'<text class="tick middle" x="{at:.1f}" y="{bottom + 17}">{escape(text)}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text class="label middle" x="{middle}" y="{HEIGHT - 6}">{escape(x.label)}</text>')
    return "".join(parts) + f"{marks}</svg>"
