"""What goes wrong with a file, said in one form: which file, what was expected, what was found."""

from __future__ import annotations


class DataError(ValueError):
    """A file exists but does not hold what it should: damaged, cut short, of another format, or inconsistent.

    It is a ValueError, because the file's *content* is the bad value. A file that is absent is a
    FileNotFoundError.
    """


def mismatch(path, expected, found, hint=None):
    """The DataError for `path`, which should hold `expected` (a phrase) but holds `found` (a phrase)."""
    message = f"{path}: expected {expected}, found {found}"
    return DataError(f"{message}. {hint}" if hint else message)
