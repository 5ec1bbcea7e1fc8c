"""The survey of the contraction on a GPU, with a clock that stands still: what it runs, compares and prints."""

from pathlib import Path

import numpy as np
import pytest

import sccengine
from sccengine.kernels.cuda import scc
from sccengine.tuning import LAUNCHERS


class Timer:
    cupy = np

    def in_a_row(self, run, calls):
        run()
        return 1e-4


@pytest.fixture
def survey_contraction(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import survey_contraction

    return survey_contraction


def test_a_row_has_every_launcher_and_variant_and_their_errors(survey_contraction):
    axes = dict(N=3, C=8, O=6, H=2, M=12, cg=2, co=0.5)
    variants = ["tf32_64x64", "tf32x3_64x64", "register_tiles_64x128"]
    rates = {"memory": 1e12, "gemm": 1e13}
    row = survey_contraction.survey(axes, variants, rates, Timer(), None)
    assert row["floor"] == 4 * (8 + 6) * 12 / 1e12
    for launcher in LAUNCHERS:
        errors = {name: entry["error"] for name, entry in row[launcher].items()}
        assert list(errors) == variants
        assert errors["tf32x3_64x64"] < 1e-6 and errors["register_tiles_64x128"] < 1e-6 < errors["tf32_64x64"] < 1e-3
    assert row["F.scc"] == {precision: {"forward": 1e-4, "both": 1e-4} for precision in ("highest", "high")}
    assert sccengine.get_matmul_precision() == "highest"


def test_what_is_printed_is_in_per_cent_of_the_floor(survey_contraction):
    axes = dict(N=3, C=8, O=6, H=2, M=12, cg=2, co=0.5)
    variants = [name for name, variant in scc.VARIANTS.items() if variant.dtypes == ("float32",)]
    row = survey_contraction.survey(axes, variants, {"memory": 1e12, "gemm": 1e13}, Timer(), None)
    row["floor"] = 8e-5
    lines = list(survey_contraction.printed(row))
    assert lines[0] == "N=3 C=8 O=6 H=2 M=12 cg=2 co=0.5: copy 100.0 us"
    assert len(lines) == 1 + 3 * 2 and all("100.0 us, 80 % of the floor" in line for line in lines[1:])
