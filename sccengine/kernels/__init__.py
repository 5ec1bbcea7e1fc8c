"""Two packages with the same launchers: ``cpu`` and ``cuda``."""
