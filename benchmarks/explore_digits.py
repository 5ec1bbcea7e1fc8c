"""Explorations of dscnet on the embedded digits, and the same number of designs drawn at random, beside each other.

    python benchmarks/explore_digits.py FOLDER                 -> benchmarks/results/explore-digits.json
    python benchmarks/explore_digits.py FOLDER --trials 4 --epochs 2 --json /tmp/x.json      # a quick look

"default" is `sccengine explore`, whose 40 trials are enough for all designs of its space: a random choice of 40 of them
is the same designs with the same accuracies. "three seeds" is the same with means of three trainings. "per layer" has a
space of thousands: NSGA-II and chance get 40 designs each, and three seeds. Studies in FOLDER already go on.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from pathlib import Path

from sccengine.backend import num_threads
from sccengine.exploration import OBJECTIVES, Space, explore
from sccengine.exploration.pareto import dominates
from sccengine.files import write_json
from sccengine.machine import describe_machine, versions

RESULTS = Path(__file__).parent / "results" / "explore-digits.json"
OBJECTIVE = ("accuracy", "params")
STUDIES = {
    "default": {},
    "default, random": {"sampler": "random"},
    "three seeds": {"seeds": 3},
    "per layer": {"space": Space(per_layer=True), "sampler": "nsga2", "seeds": 3},
    "per layer, random": {"space": Space(per_layer=True), "sampler": "random", "seeds": 3},
}


def point(trial):
    return [trial.values[name] for name in OBJECTIVE]


def measure(folder, settings):
    """A study's record, and what it cost this process to make it."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    study = explore(out=folder, objectives=OBJECTIVE, **settings)
    after = resource.getrusage(resource.RUSAGE_SELF)
    trials = study.trials()
    seconds = {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
    }
    return study, {
        "designs": study.plan.space.size,
        "sampler": study.plan.sampler,
        "epochs": study.plan.epochs,
        "seeds": study.plan.seeds,
        "states": dict(Counter(trial.state for trial in trials)),
        "epochs_trained": sum(trial.epochs for trial in trials),
        **seconds,
        "front": [
            {"design": trial.design.name, **trial.values, "spread": trial.spread}
            for trial in sorted(study.front(), key=lambda trial: trial.values["params"])
        ],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    directions = [OBJECTIVES[name].direction for name in OBJECTIVE]
    studies, results = {}, {}
    for name, settings in STUDIES.items():
        settings = {**settings, "trials": arguments.trials, "epochs": arguments.epochs}
        studies[name], results[name] = measure(arguments.folder / name.replace(", ", "-").replace(" ", "-"), settings)
        print(name, json.dumps({key: value for key, value in results[name].items() if key != "front"}), flush=True)
    for name, study in studies.items():
        results[name]["points_dominated_by"] = {
            other: sum(any(dominates(point(b), point(a), directions) for b in beside.front()) for a in study.front())
            for other, beside in studies.items()
            if other != name and beside.plan.seeds == study.plan.seeds
        }
        print(name, results[name]["points_dominated_by"])
    write_json(
        arguments.json,
        {
            "machine": {**describe_machine(), "threads": num_threads()},
            "versions": versions(),
            "date": time.strftime("%Y-%m-%d"),
            "studies": results,
        },
    )


if __name__ == "__main__":
    main()
