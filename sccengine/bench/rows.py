"""Rows: what is kept of a measured case, one JSON object with all that is needed to run it again; and their ratios.

A candidate's times in one mode are {"least", "p20", "p50", "p80", "samples", "noise", "seconds"}: quantiles, how many
there were, the median's standard error relative to it, and the samples themselves in the order in which they were
taken, to four digits, evenly thinned where they are many.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np

from sccengine.data.errors import DataError
from sccengine.files import write_atomically
from sccengine.timings import noise

_MOST_KEPT = 400


def quantiles(seconds):
    """Median with spread of a list of times."""
    p20, p50, p80 = (float(q) for q in np.quantile(seconds, (0.2, 0.5, 0.8)))
    least = float(min(seconds))
    return {"least": least, "p20": p20, "p50": p50, "p80": p80, "samples": len(seconds), "noise": noise(seconds)}


def kept(seconds):
    """``quantiles`` with the samples themselves."""
    count = min(len(seconds), _MOST_KEPT)
    picked = np.linspace(0, len(seconds) - 1, count).round().astype(int)
    return {**quantiles(seconds), "seconds": [float(f"{seconds[i]:.4g}") for i in picked]}


def times(row, side, statistic="p50"):
    """Seconds in a row's headline mode by candidate of one side, refused and failed ones left out."""
    return {
        name: entry[row["headline"]][statistic]
        for name, entry in row["candidates"].items()
        if entry["side"] == side and entry["status"] == "ok" and row["headline"] in entry
    }


def rivals(row, statistic="p50"):
    """The same of all sides but the engine."""
    sides = {entry["side"] for entry in row["candidates"].values()} - {"engine"}
    return {name: seconds for side in sorted(sides) for name, seconds in times(row, side, statistic).items()}


def ratio(row, engine, statistic="p50"):
    """Best rival's time over the engine candidate's: above 1 the engine is faster; None where either is missing."""
    mine, theirs = times(row, "engine", statistic).get(engine), rivals(row, statistic)
    return min(theirs.values()) / mine if mine and theirs else None


def floor_of(row, mode):
    """The floor in seconds that a mode's times are held against."""
    return row["floor"]["cold" if mode == "cold" else "warm"]


def geometric_mean(values):
    """exp of the mean log; None of nothing."""
    values = [v for v in values if v is not None]
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def write_rows(path, rows):
    """Write rows as a JSON file that is never half there, each list of samples on one line."""
    text = json.dumps(rows, indent=1)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, re.sub(r"\[\s+([-+.,\de\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n")


def read_rows(path):
    """The rows of a file that --json or run_on_gpu.sh wrote. Raises FileNotFoundError or DataError."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            found = [row for part in found["parts"].values() for row in part.get("rows", ())]
        for row in found:
            row["benchmark"] = row["benchmark"].removeprefix("bench_")  # as it was once written
            _ = row["case"], row["headline"], row["floor"]["warm"], row["work"], row["ceilings"]
            _ = row["machine"]["cores"], row["versions"], row["options"], row["date"]
            _ = [entry["status"] for entry in row["candidates"].values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected rows that sccengine bench --json wrote ({error!r})") from error
    if not found:
        raise DataError(f"{path}: there are no rows in it")
    return found
