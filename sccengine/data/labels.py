"""The checks on labels that every reader of a file makes, worded for a file."""

from __future__ import annotations

from sccengine.data.errors import mismatch


def check_labels(path, labels, classes):
    """DataError unless every entry of `labels` (integers) is in 0 ... classes - 1."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        found = low if low < 0 else high
        position = int((labels == found).argmax())
        raise mismatch(path, f"labels in 0 ... {classes - 1}", f"label {found} (first at position {position})")


def check_counts(path, images, label_path, labels):
    """DataError unless there are as many `labels` (a number) as `images` (a number), and at least one."""
    if images != labels:
        raise mismatch(path, f"as many images as {label_path} has labels ({labels:,})", f"{images:,} images")
    if images == 0:
        raise mismatch(path, "at least one image", "none")
