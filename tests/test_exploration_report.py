"""The report: one self-contained, well-formed page for whatever trials there are, with commands that can be typed."""

import math
import re
import shlex
from html.parser import HTMLParser

import pytest

from sccengine.cli.train import train
from sccengine.exploration import OBJECTIVES, Design, Plan, Space, Trial
from sccengine.exploration.axes import accuracy_axis, accuracy_place, cost_axis, cost_place, whole_axis
from sccengine.exploration.findings import Findings
from sccengine.exploration.report import page, write_report
from sccengine.training.job import RECIPE, choose_rates

PICTURES = ("pareto.png", "importance.png", "curves.png")
VOID = {"meta", "br", "img", "link", "input", "hr"}


def plan_of(**settings):
    options = dict(RECIPE)
    choose_rates(options)
    return Plan(space=Space(per_layer=True), options=options, trials=6, epochs=4, **settings)


def finished(number, design, accuracy, params, **values):
    curve = tuple(accuracy * part for part in (0.5, 0.8, 0.9, 1.0))
    values = {"params": params, "accuracy": accuracy, **values}
    return Trial(number, design, "finished", values, 3, 4, 2.0, worker="one-1", curves=[curve])


SOME = [
    finished(0, Design(width=0.5, groups=(2, 4, 2), overlap=(0.5, 0.25, 0.0)), 0.97, 4000),
    finished(1, Design(width=1.0), 0.99, 9000),
    finished(2, Design(width=0.75), 0.95, 7000),
    finished(3, Design(width=0.25), 0.90, 1100),
    Trial(4, Design(width=1.0, groups=4), "stopped", {"params": 8000, "accuracy": 0.6}, 3, 2, 1.0, curves=[(0.5, 0.6)]),
    Trial(5, Design(width=1.0, groups=1), "rejected", {"params": 20000}, 3, reason="too many parameters"),
    Trial(6, Design(width=0.5), "failed", {"params": 3000}, 3, error="ValueError: <script>alert(1)</script> & more"),
    Trial(7, Design(width=0.5, groups=8), "running", {"params": 2000}, 3, 1, 0.5, curves=[(0.4,)]),
    Trial(8, Design(width=0.5, groups=1), "waiting", {}, 3),
]


class Page(HTMLParser):
    """Fails where tags do not match; keeps tags, attributes and texts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.texts, self.preformatted = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.preformatted.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else None, data))
        if "pre" in self.open:
            self.preformatted[-1] += data

    def of(self, tag):
        return [text for where, text in self.texts if where == tag]


CASES = {
    "some": (plan_of(), SOME),
    "none": (plan_of(), []),
    "one": (plan_of(), SOME[:1]),
    "none finished": (plan_of(), SOME[4:]),
    "all equal": (plan_of(), [finished(i, Design(width=0.5), 0.5, 100) for i in range(5)]),
    "perfect": (plan_of(), [finished(0, Design(), 1.0, 100), finished(1, Design(width=0.5), 1.0, 50)]),
    "no accuracy": (plan_of(), [SOME[0].changed(values={"params": 4000}), SOME[1]]),
    "not a number": (plan_of(), [finished(0, Design(), math.nan, 100), SOME[1]]),
    "three objectives": (
        plan_of(objectives=("params", "accuracy", "latency", "memory"), limits={"latency": 0.004}),
        [
            finished(0, Design(), 0.9, 100, latency=3e-3, memory=2**20),
            finished(1, Design(width=0.5), 0.8, 90, latency=2e-3, memory=2**19),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_page_is_well_formed_and_loads_nothing(name, tmp_path):
    path = write_report(tmp_path, *CASES[name])
    assert path == tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert "script" not in parsed.tags and "link" not in parsed.tags and "iframe" not in parsed.tags
    for key, value in parsed.attributes:
        assert key not in ("src", "href", "srcset") and not key.startswith("on"), f"{key}={value}"
    assert not re.search(r"https?:|url\(|@import", text)
    assert ("name", "viewport") in parsed.attributes and ("lang", "en") in parsed.attributes
    assert "nan" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.S).lower().split()
    for shape in re.findall(r'(?:d|points|cx|cy|x|y)="([^"]*)"', text):
        assert "nan" not in shape and "inf" not in shape
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures <= set(PICTURES)
    for picture in pictures:
        assert (tmp_path / picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    if name == "some":
        assert pictures == set(PICTURES)
    if name == "none":
        assert pictures == set()


def test_every_design_of_the_front_has_a_command_that_train_understands():
    plan, trials = CASES["some"]
    findings = Findings(plan, tuple(trials))
    commands = [text for text in Page(page(findings)).preformatted if text.startswith("sccengine")]
    assert [trial.number for trial in findings.front] == [1, 0, 3]
    assert len(commands) == 3
    for trial, command in zip(findings.front, commands):
        words = shlex.split(command)
        assert words[:2] == ["sccengine", "train"]
        context = train.make_context("train", words[2:])
        for option, value in trial.design.as_dict().items():
            assert context.params[option] == value
        assert context.params["epochs"] == 4 and context.params["seed"] == 3
        assert context.params["dataset"] == "digits"


def test_text_of_others_is_escaped():
    text = page(Findings(*map(lambda x: x if isinstance(x, Plan) else tuple(x), CASES["some"])))
    assert "<script" not in text
    assert any("<script>alert(1)</script> & more" in cell for cell in Page(text).of("td"))


def test_counts_times_and_trials_are_told():
    findings = Findings(plan_of(), tuple(SOME))
    assert findings.counts == {"finished": 4, "stopped": 1, "rejected": 1, "failed": 1, "running": 1, "waiting": 1}
    # Two epochs left at half a second each; one trial that would have taken the mean of the finished, 2 s.
    assert findings.saved == {"stopped": pytest.approx(1.0), "rejected": pytest.approx(2.0)}
    parsed = Page(page(findings))
    words = " ".join(text for _, text in parsed.texts)
    assert "7 of 9 trials are over" in words
    assert "too many parameters" in words
    assert dict(zip(parsed.of("dt"), parsed.of("dd")))["time saved, about"] == "3 s"
    for trial in SOME:
        assert trial.design.name in words


def test_front_and_volume_against_hand_count():
    findings = Findings(plan_of(), tuple(SOME))
    cost = OBJECTIVES["params"]
    assert [trial.number for trial in findings.front_against(cost)] == [3, 0, 1]
    # Reference: accuracy 0.9 - 0.1 * 0.09, params 9000 + 0.1 * 7900. Ideal: 0.99, 1100.
    low, high = 0.891, 9790
    box = (0.99 - low) * (high - 1100)
    volumes = dict(findings.volumes)
    assert volumes[0] == pytest.approx((0.97 - low) * (high - 4000) / box)
    last = (0.90 - low) * (high - 1100) + 0.07 * (high - 4000) + 0.02 * (high - 9000)
    assert volumes[3] == pytest.approx(last / box)
    assert list(volumes.values()) == sorted(volumes.values())


def test_pictures_that_are_no_longer_true_are_removed(tmp_path):
    write_report(tmp_path, *CASES["some"])
    write_report(tmp_path, *CASES["none"])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("accuracies", [[0.97], [0.9712, 0.9713], [0.1, 0.999], [1.0], [0.0], [], [0.93, 0.985]])
def test_accuracy_axes_have_few_ticks_in_order(accuracies):
    axis = accuracy_axis(accuracies)
    places = [place for place, _ in axis.ticks]
    assert axis.low < axis.high and places == sorted(places) and len(places) <= 13
    assert all(axis.low <= place <= axis.high for place in places)
    assert all(0 <= axis.share(accuracy_place(one)) <= 1 for one in accuracies)
    labels = [text for _, text in axis.ticks]
    assert len(set(labels)) == len(labels)


def test_accuracy_ticks_stand_at_their_accuracies():
    ticks = dict((text, place) for place, text in accuracy_axis([0.5, 0.99]).ticks)
    assert ticks["90%"] == pytest.approx(1) and ticks["99%"] == pytest.approx(2)
    assert ticks["50%"] == pytest.approx(-math.log10(0.5))


@pytest.mark.parametrize("values", [[1], [1000, 1001], [1e3, 1e9], [3e-3], [2e-3, 9e-3]])
def test_cost_axes_hold_their_values(values):
    cost = OBJECTIVES["latency" if max(values) < 1 else "params"]
    axis = cost_axis(cost, values)
    assert 1 <= len(axis.ticks) <= 8
    assert all(0 <= axis.share(cost_place(cost, value)) <= 1 for value in values)


@pytest.mark.parametrize("low, high", [(0, 0), (0, 1), (1, 7), (0, 39), (0, 1234)])
def test_whole_axes_have_whole_ticks(low, high):
    ticks = [place for place, _ in whole_axis("trial", low, high).ticks]
    assert ticks[0] == low and ticks[-1] <= max(high, low + 1) and 2 <= len(ticks) <= 11


def test_means_over_seeds_show_their_spread():
    ends = (0.95, 0.97)
    values = {"params": 4000, "accuracy": 0.96}
    trial = Trial(0, Design(), "finished", values, 3, 8, 2.0, curves=[(0.5, 0.6, 0.7, end) for end in ends])
    findings = Findings(plan_of(seeds=2, seed=3), (trial, *SOME[2:4]))
    text = page(findings)
    assert "96.00 ± 1.41%" in text and "means of seeds 3 to 4" in text
    assert text.count('class="reach"') == 1
    assert "95.00%" in text and "95.00 ±" not in text
    Page(text)


def test_trainings_without_a_finite_accuracy_have_no_spread():
    trial = Trial(0, Design(), "finished", {"params": 4000, "accuracy": math.nan}, 3, 2, curves=[(math.nan,)] * 2)
    findings = Findings(plan_of(seeds=2), (trial, *SOME[1:4]))
    assert findings.trials[0].spread is None
    Page(page(findings))
