"""Certificates as JSON:

    format    "sccengine certificate 1"
    sha256    over `content` in canonical form: sorted keys, no blanks
    date      when it was put together; not part of the hash
    content   subject   the layer, or the arguments of models.build
              device    what computed it: family and name; versions of kernels and compilers, of sccengine
              layers    for each distinct layer: names (of a model's modules), operator and settings, sha256 of what
                        follows, triples, gradcheck, repeats (checks.py), problems: sentences, none if it holds
              holds     whether there are no problems

The same layers on the same device and versions give the same hash, every time. What was found of a layer is kept in the
cache folder, in a file named by what it depends on.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

import sccengine
from sccengine import backend, tuning
from sccengine.certify import checks
from sccengine.certify.layer import layers_of
from sccengine.files import write_json
from sccengine.tuning_keys import device_key, kernel_versions

FORMAT = "sccengine certificate 1"


def certify_layer(layer, device="cpu", again=False):
    """The certificate of one Layer. again: even if it is in the cache."""
    return _assembled(_subject(layer), [(layer, [])], device, again)


def certify_model(model, settings, device="cpu", again=False, each=None):
    """The certificate of a model's distinct layers with weights.

    settings   what names the model, plain values: the arguments of models.build
    each       called with the Layer and its place (1, of how many) before each
    """
    return _assembled(settings, layers_of(model), device, again, each)


def known(layers, device, settings):
    """The hash of the certificate of [(Layer, names)] if it holds and is in the cache, else None; in milliseconds."""
    parts = [_load(_key(layer, device)) for layer, _ in layers]
    if not parts or any(part is None or part["problems"] for part in parts):
        return None
    return _sha256(_content(settings, layers, parts, device))


def known_layer(layer, device):
    """The same of one Layer."""
    return known([(layer, [])], device, _subject(layer))


def problems(certificate):
    """[sentence] of a certificate, the layer named in front of each."""
    found = []
    for part in certificate["content"]["layers"]:
        where = part["names"][0] if part["names"] else part["operator"]
        found += [f"{where}: {problem}" for problem in part["problems"]]
    return found


def check_intact(certificate, name="the certificate"):
    """Raise DataError, naming the file, unless it is a certificate whose content has the hash that it says."""
    from sccengine.data import DataError

    if not isinstance(certificate, dict) or certificate.get("format") != FORMAT:
        raise DataError(f"{name}: expected {FORMAT!r}, as sccengine certify writes it")
    content = certificate.get("content")
    try:
        whole = _sha256(content) == certificate.get("sha256")
        whole &= all(part["sha256"] == _sha256(_hashed(part)) for part in content["layers"])
        whole &= content["holds"] == (not problems(certificate))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{name}: its content is not that of a certificate ({error!r})") from error
    if not whole:
        raise DataError(f"{name}: altered (its content does not match its SHA-256)")


def read_certificate(path):
    """The certificate in a file, intact. Raises FileNotFoundError or DataError."""
    from sccengine.data import DataError

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error})") from error
    check_intact(certificate, path)
    return certificate


def _subject(layer):
    return {"layer": layer.operator, **layer.settings}


def _assembled(subject, layers, device, again, each=None):
    device = backend.resolve_device(device)
    parts = []
    for place, (layer, _) in enumerate(layers, 1):
        if each is not None:
            each(layer, place, len(layers))
        parts.append(_certified(layer, device, again))
    content = _content(subject, layers, parts, device)
    date = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"format": FORMAT, "sha256": _sha256(content), "date": date, "content": content}


def _content(subject, layers, parts, device):
    return {
        "subject": json.loads(json.dumps(subject)),
        **_made_with(device),
        "layers": [{"names": names, **part} for (_, names), part in zip(layers, parts)],
        "holds": not any(part["problems"] for part in parts),
    }


def _certified(layer, device, again):
    key = _key(layer, device)
    part = None if again else _load(key)
    if part is None:
        found = []
        part = {"operator": layer.operator, "settings": layer.settings}
        part["triples"] = checks.check_triples(layer, device, found) if layer.windows() is not None else None
        part["gradcheck"] = checks.check_gradcheck(layer, device, found)
        part["repeats"] = checks.check_repeats(layer, device, found)
        part["problems"] = found
        part["sha256"] = _sha256(part)
        _keep(key, part)
    return part


def _hashed(part):
    return {name: value for name, value in part.items() if name not in ("names", "sha256")}


def _made_with(device):
    key = device_key(device)
    return {
        "device": {"family": key["family"], "name": key["name"]},
        "versions": {"sccengine": sccengine.__version__, **kernel_versions(device)},
    }


def _key(layer, device):
    threads = checks.thread_counts(device)
    return {"layer": layer.operator, **layer.settings, **_made_with(device), "threads": threads}


def _canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(value):
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


# What was found before


def _path(key):
    return tuning.store().folder.with_name("certificates") / f"{_sha256(key)[:24]}.json"


def _load(key):
    """What the cache has of a layer; None where it has nothing, or nothing whole."""
    try:
        part = json.loads(_path(key).read_text(encoding="utf-8"))
        return part if part["sha256"] == _sha256(_hashed(part)) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(key, part):
    """Quietly nowhere, if the cache folder cannot be written: it is found out again then."""
    path = _path(key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, part)
