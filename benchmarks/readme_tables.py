"""Writes what the README says of measured times, compared schemes and conversion from benchmarks/results/.

    python benchmarks/readme_tables.py [--check]

Nothing in the tables is typed by hand; --check only tells, by the exit status, whether the README is current.
"""

import json
import statistics
import sys
from pathlib import Path

from sccengine.bench.rows import geometric_mean
from sccengine.training.comparison_report import markdown_table, summary_rows

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- table:begin -->\n", "<!-- table:end -->\n"
CONVERTED = "<!-- converted:begin -->\n", "<!-- converted:end -->\n"
EXPLORED = "<!-- explored:begin -->\n", "<!-- explored:end -->\n"
COMPARED = "<!-- compared:begin -->\n", "<!-- compared:end -->\n"


def tables():
    """The Markdown between the markers."""
    contraction = _rows("cpu-scc.json")
    steps = _rows("cpu-train-step.json")
    memory = _rows("cpu-memory.json")
    inference = _rows("cpu-inference.json")
    training = {"captured": "sccengine captured", "layer by layer": "sccengine eager"}
    evaluation = {"fused": "sccengine", "and captured": "sccengine captured"}
    return "\n".join(
        [
            _origin(contraction),
            _contraction_table(contraction),
            _against_matrix_products(contraction),
            _network_table(steps, "training step", training),
            _network_table(inference, "evaluation", evaluation),
            _elsewhere(*(_rows(f"cpu-{name}-intel.json") for name in ("scc", "train-step", "inference"))),
            _memory(memory),
            _on_a_gpu(_rows("cuda-h200.json"), _rows("cuda-h200-tiles.json")),
        ]
    )


def compared():
    """The Markdown of the comparisons of schemes, and whether dw+scc held its own on the digits."""
    outcomes = [_rows(f"compare-{name}.json") for name in ("digits", "synthetic")]
    return "\n".join([*map(markdown_table, outcomes), _verdict(outcomes[0])])


def _verdict(outcome):
    """In words: dw+scc (2, 0.5) against dw+gpw (2)."""
    rows = {row["variant"]: row for row in summary_rows(outcome)}
    scc, gpw = rows["dw+scc (2, 0.5)"], rows["dw+gpw (2)"]
    more = scc["params"] > gpw["params"]
    lower = scc["accuracy_mean"] < gpw["accuracy_mean"]
    return (
        f"On the digits, dw+scc (2, 0.5) has {'more' if more else 'no more'} parameters than dw+gpw (2), and its mean "
        f"accuracy over {scc['seeds']} seeds is {'below' if lower else 'not below'} it: "
        f"{100 * scc['accuracy_mean']:.2f} and {100 * gpw['accuracy_mean']:.2f} %, with standard deviations of "
        f"{100 * scc['accuracy_sd']:.2f} and {100 * gpw['accuracy_sd']:.2f}.\n"
    )


def converted():
    """In words: what a trained network becomes by conversion and fine-tuning on the digits, and what it cost it."""
    outcome = _rows("convert-digits.json")
    settings, median = outcome["settings"], {name: f"{100 * x:.2f}" for name, x in outcome["median"].items()}
    worst = max(100 * (row["original"] - row["fine-tuned"]) for row in outcome["seeds"])
    return (
        f"A dscnet of scheme dw+pw, trained on the digits for {settings['epochs']} epochs, classifies "
        f"{median['original']} % of the held-out images correctly; converted to dw+scc "
        f"({settings['groups']}, {settings['overlap']}) {median['converted']} % ({median['truncated']} % without "
        f"calibration); after {settings['fine_tune']} epochs of fine-tuning {median['fine-tuned']} %, against "
        f"{median['fresh']} % of fresh weights after as many. Medians of {len(outcome['seeds'])} seeds; at worst "
        f"{worst:.2f} points below the original (`benchmarks/convert_digits.py`, {outcome['date']}).\n"
    )


def explored():
    """What explorations of the digits found, and which points of their fronts another's front beats."""
    outcome = _rows("explore-digits.json")
    lines = [
        "| study | designs | sampler | trials | seeds | front: parameters (accuracy) | beaten | CPU s | s |",
        "|---|---:|---|---:|---:|---|---|---:|---:|",
    ]
    for name, study in outcome["studies"].items():
        front = ", ".join(f"{point['params']:,} ({_accuracy(point)} %)" for point in study["front"])
        beaten = "; ".join(f"{count} by {other}" for other, count in study["points_dominated_by"].items())
        trials = sum(study["states"].values())
        cells = [name, f"{study['designs']:,}", study["sampler"], str(trials), str(study["seeds"]), front, beaten]
        lines.append(f"| {' | '.join(cells)} | {study['cpu_seconds']:.0f} | {study['seconds']:.0f} |")
    epochs = next(iter(outcome["studies"].values()))["epochs"]
    machine = outcome["machine"]
    return "\n".join(lines) + (
        f"\n\ndscnet on the digits, {epochs} epochs a training, the same seeds for all designs; on "
        f"{machine['cores']} cores of {machine['processor']}, shared with other work, {outcome['date']}. "
        '"default" is `sccengine explore`: its 40 trials are enough for every design of its space, so no random choice '
        "of 40 of them has a better front. "
        "Accuracies of several seeds are means, ± their sample standard deviation: a front of single trainings is "
        'partly a choice of lucky ones. "per layer" has cg and co of each layer by itself'
        f"{_against_chance(outcome['studies'])}. Beaten: how many points of this front a point of another dominates, "
        "of studies with as many seeds.\n"
    )


def _accuracy(point):
    spread = "" if point["spread"] is None else f" ± {100 * point['spread']:.2f}"
    return f"{100 * point['accuracy']:.2f}{spread}"


def _against_chance(studies):
    """In words: NSGA-II against designs drawn at random in the same space."""
    lost = studies["per layer"]["points_dominated_by"]["per layer, random"]
    won = studies["per layer, random"]["points_dominated_by"]["per layer"]
    if lost < won:
        return f", and NSGA-II beat {won} points of the random front, which beat {lost} of its own"
    return f": NSGA-II found no more than chance there, which beat {lost} points of its front and lost {won}"


def _rows(name):
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def _place(rows):
    """The machine, what its cores reach together in a matrix product, and the day."""
    machine, rate = rows[0]["machine"], max(row["ceilings"]["gemm"] for row in rows)
    cores = f"{machine['cores']} cores, together {rate / 1e9:.0f} GFLOP/s in a matrix product"
    return f"{machine['processor']}, {cores}, {rows[0]['date'][:10]}"


def _origin(rows):
    versions = rows[0]["versions"]
    return (
        f"Measured on {_place(rows)}, float32, with numba {versions['numba']}, numpy {versions['numpy']} and PyTorch "
        f"{versions['torch']}: medians in ms of interleaved runs with a warm cache. PyTorch is the fastest of its "
        "expressions of the same layer (banded dense convolution and matrix products in both memory formats, "
        "channel-stack, cyclic grouped convolution), and keeps freed memory, as the engine does.\n"
    )


def _median(row, side, names=None):
    """The best median of one side's candidates, in ms."""
    return 1e3 * min(
        candidate["warm"]["p50"]
        for name, candidate in row["candidates"].items()
        if candidate["side"] == side and candidate["status"] == "ok" and (names is None or name in names)
    )


def _passes(rows):
    """{(N, C, O, H, cg, co): {pass: (ms of F.scc, ms of PyTorch)}}."""
    cases = {}
    for row in rows:
        case = row["case"]
        key = tuple(case[axis] for axis in ("N", "C", "O", "H", "cg", "co"))
        cases.setdefault(key, {})[case["pass"]] = (_median(row, "engine", ("F.scc",)), _median(row, "pytorch"))
    return cases


def _ratios(cases, name):
    """PyTorch's time over that of F.scc in one pass of every case."""
    return [theirs / ours for ours, theirs in (passes[name] for passes in cases.values())]


def _contraction_table(rows):
    cases = _passes(rows)
    lines = [
        "| N, C, O, H=W | cg | co | forward | PyTorch | ratio | forward + backward | PyTorch | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (n, c, o, h, cg, co), passes in cases.items():
        cells = [f"{n}, {c}, {o}, {h}", str(cg), str(co)]
        for ours, theirs in (passes["forward"], passes["both"]):
            cells += [f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    means = [geometric_mean(_ratios(cases, name)) for name in ("forward", "both")]
    lines.append(f"| geometric mean | | | | | **{means[0]:.2f}** | | | **{means[1]:.2f}** |")
    return "\n".join(lines) + "\n"


def _against_matrix_products(rows):
    """In words: how near F.scc and the kernels alone come to the machine's matrix product."""

    def range_of(name):
        accepted = [row for row in rows if row["candidates"][name]["status"] == "ok"]
        floors = [row["work"]["operations"] / row["ceilings"]["gemm"] for row in accepted]
        ratios = [_median(row, "engine", (name,)) / 1e3 / floor for row, floor in zip(accepted, floors)]
        return f"{min(ratios):.2f} to {max(ratios):.2f} times ({statistics.median(ratios):.2f} in the middle)"

    return (
        f"At the rate of that matrix product the same arithmetic would take less: F.scc takes {range_of('F.scc')} as "
        f"long, its kernels alone {range_of('kernels tiles')}. Farthest off are narrow windows, where moving the "
        "images takes as long as the arithmetic.\n"
    )


def _elsewhere(contraction, steps, inference):
    """In words: the ratios of these tables on another machine."""
    found = []
    for name, what in (("forward", "forward"), ("both", "forward + backward")):
        ratios = _ratios(_passes(contraction), name)
        found.append(f"SCC {what} {geometric_mean(ratios):.2f} (geometric mean; {min(ratios):.2f} at least)")
    for rows, what in ((steps, "training step"), (inference, "evaluation")):
        ratios = ", ".join(
            f"{row['case']['model']} {row['case']['scheme']} "
            f"{_median(row, 'pytorch') / _median(row, 'engine', ('sccengine captured',)):.2f}"
            for row in rows
        )
        found.append(f"{what}, captured: {ratios}")
    return f"The same ratios on {_place(contraction)}: {'; '.join(found)}.\n"


def _on_a_gpu(survey, later):
    """In words: whole networks beside PyTorch, launches, and what the tiles on tensor cores came to since."""
    networks = []
    for row in survey["steps"]:
        ms = {name: times["p50"] for name, times in row["ms"].items()}
        for what, prefix in (("training step", ""), ("evaluation", "evaluation, ")):
            if peers := [time for name, time in ms.items() if name.startswith(f"{prefix}torch")]:
                ours, best = ms[f"{prefix}sccengine captured"], min(peers)
                times = f"{ours:.2f} ms, PyTorch {best:.2f} ms ({best / ours:.1f} times)"
                networks.append(f"{row['model']} {what} {times}")
    launch = survey["launch"][-1]
    host = (f"{name} {1e6 * entry['host']['p50']:.0f} us" for name, entry in launch["candidates"].items())
    return (
        f"On an {survey['machine']['gpu']}, {survey['date']}, float32, batch 128, 32x32, captured, PyTorch "
        f"{survey['versions']['torch']} in the fastest of its eager expressions: {'; '.join(networks)}. "
        f"Host time of a launch with {launch['case']['arguments']} arguments: {', '.join(host)}. "
        f"{_later_on_a_gpu(later)}"
        "`benchmarks/results/cuda-h200.json` and `cuda-h200-tiles.json` have all, and say what was measured how.\n"
    )


def _later_on_a_gpu(later):
    steps = (
        f"{row['model']} {row['ms']['captured']['p50']:.2f} ms"
        for row in later["steps"]["rows"]
        if row["what"] == "training step" and row["precision"] == "highest"
    )
    tiles, before = later["tiles"], later["contraction"]["rows"][0]
    case, split = tiles["cases"][0], [row for row in tiles["forward"] if row["operands"] == "tf32x3"]
    return (
        f"Since then float32 SCC runs on tensor cores: training steps {', '.join(steps)} ({later['date']}; no PyTorch "
        f"ran beside); and its tiles were made anew: {case['C']} channels, {case['M']} pixels, forward "
        f"{min(row['us'][0] for row in split):.0f} us, {before['forward']['tf32x3_32x128']['us']:.0f} before and "
        f"{before['forward']['register_tiles_64x128']['us']:.0f} without tensor cores, where a copy takes "
        f"{case['copy']:.0f}. The kernels as they are now have run on a GPU in parts, not as a whole. "
    )


def _network_table(rows, what, ours):
    """One row a network; ours: {heading: the engine's candidate}."""
    headings = [what, *ours, "PyTorch", *(f"ratio, {heading}" for heading in ours)]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for row in rows:
        times = [_median(row, "engine", (name,)) for name in ours.values()]
        theirs = _median(row, "pytorch")
        case = row["case"]
        cells = [f"{case['model']}, {case['scheme']}, {case['image']}x{case['image']}, batch {case['batch']}"]
        cells += [f"{x:.2f}" for x in (*times, theirs, *(theirs / time for time in times))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _memory(outcome):
    """In words: by how much a process grows for training."""
    found = []
    for name, sides in outcome["models"].items():
        mib = {side: round(one["growth"] / 2**20) for side, one in sides.items()}
        theirs = min(size for side, size in mib.items() if side.startswith("torch"))
        ours = f"{mib['sccengine captured']} MiB captured, {mib['sccengine eager']} MiB layer by layer"
        found.append(f"{name} {ours}, PyTorch {theirs} MiB")
    return (
        f"Peak growth of the process over training steps of dw+scc models at batch {outcome['batch']}, 32x32 "
        f"(`benchmarks/peak_memory.py`, {outcome['date']}): {'; '.join(found)} in its better memory format.\n"
    )


def main(arguments):
    text = README.read_text(encoding="utf-8")
    current = text
    for (begin, end), content in (
        ((BEGIN, END), tables()),
        (COMPARED, compared()),
        (CONVERTED, converted()),
        (EXPLORED, explored()),
    ):
        head, rest = current.split(begin)
        current = head + begin + content + end + rest.split(end)[1]
    if "--check" in arguments:
        return int(current != text)
    README.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
