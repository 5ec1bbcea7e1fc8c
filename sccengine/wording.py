"""Numbers in sentences."""


def counted(count, noun):
    """``1 epoch``, ``2 epochs``: for nouns that take an s; large numbers with commas."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
