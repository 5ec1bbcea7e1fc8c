"""Other ways to compute what the engine computes. Optional: a benchmark runs without them and says so."""

import importlib


def load(name):
    """(module, None) of ``peers.<name>``, or (None, why it is absent)."""
    try:
        return importlib.import_module(f"peers.{name}"), None
    except ImportError as error:
        return None, f"the {name} peers are absent: {error} (pip install 'sccengine[test-torch]')"
