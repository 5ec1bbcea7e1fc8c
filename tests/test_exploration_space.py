"""Designs and the space of them: only valid ones, each network once, and the same back from its record."""

import itertools
import json
import re
import shlex
from collections import Counter

import numpy as np
import pytest

from sccengine import backend, models
from sccengine.exploration import Design, Space, Trial

PER_LAYER = Space(widths=(0.25, 1.0), groups=(1, 2, 8), overlaps=(0.0, 0.25, 0.5), per_layer=True)
SPACES = [
    Space(),
    PER_LAYER,
    Space(models=("dscnet", "resnet18"), schemes=models.SCHEMES, widths=(0.25,), groups=(2, 3, 4), overlaps=(0.5,)),
    Space(models=("dscnet",), widths=(0.375,), groups=(2, 3, 5, 8), overlaps=(0.33, 0.34), per_layer=True),
]


def windows(design):
    """What every channel-mixing layer reads, by the layers themselves."""
    model = models.build(design.model, **design.settings)
    found = []
    for path, layer in model.named_modules():
        if path.endswith(".mix"):
            kind = type(layer).__name__ + (" " + str(layer.groups) if layer.groups != layer.in_channels else "")
            table = layer.windows if hasattr(layer, "windows") else None
            found.append((kind, layer.weight.shape, None if table is None else table.starts.tolist()))
    return json.dumps([design.model, design.width, design.scheme, found])


@pytest.mark.parametrize("space", SPACES)
def test_the_grid_has_every_network_once_and_the_size_says_how_many(space):
    designs = list(space.grid())
    assert len(designs) == space.size == len(set(designs))
    some = designs if len(designs) <= 60 else [designs[i] for i in np.linspace(0, len(designs) - 1, 60).astype(int)]
    networks = [windows(design) for design in some]  # raises where groups do not divide
    assert len(set(networks)) == len(some)


def test_the_grid_by_hand():
    """One layer after another: 8, 8 and 16 input channels at a width of 0.25."""
    options = []
    for channels in (8, 8, 16):
        shifts = {(cg, channels // cg - int(co * (channels // cg))) for cg in (2, 8) for co in (0.0, 0.25, 0.5)}
        options.append({(1, None)} | shifts)
    narrow = Space(**{**PER_LAYER.as_dict(), "widths": [0.25]})
    assert narrow.size == len(list(itertools.product(*options)))


@pytest.mark.parametrize("space", SPACES)
def test_decisions_lead_to_every_design_and_back(space):
    designs = list(space.grid())
    for design in designs[:: max(1, len(designs) // 50)]:
        answers = space.answers(design)
        assert set(answers) == set(space.decisions)
        assert all(answer in space.decisions[name] for name, answer in answers.items())
        assert space.design(answers) == design


@pytest.mark.parametrize("space", SPACES)
def test_any_answers_make_a_design_of_the_grid(space):
    designs = set(space.grid())
    random = np.random.default_rng(0)
    for _ in range(50):
        answers = {name: options[random.integers(len(options))] for name, options in space.decisions.items()}
        assert space.design(answers) in designs


def test_groups_that_a_layer_cannot_have_become_the_next_smaller():
    space = Space(widths=(0.25,), groups=(2, 4, 16), overlaps=(0.5,), per_layer=True)
    answers = {"model": "dscnet", "scheme": "dw+scc", "width": 0.25}
    answers |= {f"groups[{i}]": 16 for i in range(3)} | {f"overlap[{i}]": 0.5 for i in range(3)}
    assert space.design(answers).groups == (4, 4, 16)


def test_samples_are_decided_by_seed_and_number_alone():
    space = Space(per_layer=True)
    backend.set_seed(1)
    once = [space.sample(7, number) for number in range(200)]
    backend.set_seed(2)
    assert once == [space.sample(7, number) for number in range(200)]
    assert once != [space.sample(8, number) for number in range(200)]
    widths = Counter(design.width for design in once)
    assert set(widths) == set(space.widths) and min(widths.values()) > 25


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"models": ("dscnut",)}, "models: unknown 'dscnut'; choose from dscnet,"),
        ({"schemes": ("scc",)}, "schemes: unknown 'scc'; choose from standard,"),
        ({"stem": "mnist"}, "stem: unknown 'mnist'"),
        ({"widths": ()}, "widths must offer at least one choice"),
        ({"widths": (0.0,)}, "width must be a finite number above 0"),
        ({"overlaps": (1.0,)}, "overlap must be at least 0 and below 1"),
        ({"groups": (0,)}, "groups must be at least 1"),
        ({"groups": (3, 5)}, "groups: none of 3, 5 divides the input channels of all mixing layers of dscnet at width"),
        ({"groups": (16,), "per_layer": True}, "of mixing layer 0 of dscnet at width 0.25 (8)"),
    ],
)
def test_bad_spaces(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Space(**settings)


def test_a_choice_that_is_no_sequence():
    with pytest.raises(TypeError, match="models must be a sequence of choices, got 'dscnet'"):
        Space(models="dscnet")


def test_records_come_back_from_json():
    design = Design("dscnet", "dw+scc", 0.5, (2, 4, 2), (0.5, 0.25, 0.0))
    curves = ((0.25, 0.5), (0.75,))
    trial = Trial(3, design, "stopped", {"accuracy": 0.5, "params": 7}, 1, 3, 0.5, "a-1-b", "why", None, curves)
    assert Trial.from_dict(json.loads(json.dumps(trial.as_dict()))) == trial
    for space in SPACES:
        assert Space.from_dict(json.loads(json.dumps(space.as_dict()))) == space


def test_the_same_value_for_every_layer_is_one_value():
    assert Design(groups=(2, 2, 2), overlap=[0.5, 0.5, 0.5]) == Design(groups=2, overlap=0.5)
    assert hash(Design(groups=(2, 2))) == hash(Design(groups=2))


def test_names_and_the_command():
    design = Design("dscnet", "dw+scc", 0.5, (2, 4, 2), 0.25)
    assert design.name == "dscnet x0.5 dw+scc (cg 2,4,2; co 0.25)"
    assert design.slug == "dscnet-w0.5-dw+scc-cg2_4_2-co0.25"
    assert Design("dscnet", "standard", 1.0, 1, 0.0).name == "dscnet x1 standard"
    words = shlex.split(design.command(3, 9, "folder:my images", {"augment": False, "lr": None, "batch_size": 64}))
    assert words[:2] == ["sccengine", "train"] and "--lr" not in words and "--no-augment" in words
    pairs = dict(zip(words, words[1:]))
    assert pairs["--groups"] == "2,4,2" and pairs["--overlap"] == "0.25" and pairs["--dataset"] == "folder:my images"
    assert (pairs["--seed"], pairs["--epochs"], pairs["--batch-size"]) == ("3", "9", "64")


@pytest.mark.parametrize("values", [{"number": 1}, [], {"number": 1, "design": {}, "colour": 2}])
def test_what_is_no_record(values):
    with pytest.raises(ValueError, match="expected an object with"):
        Trial.from_dict(values)


def test_a_state_that_does_not_exist():
    with pytest.raises(ValueError, match="state must be one of waiting, running, .*, got 'done'"):
        Trial(0, Design(), "done")
