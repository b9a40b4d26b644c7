"""Median and range, as the tables of the benchmarks show them."""

import statistics


def spread(values: list[float], digits: int) -> str:
    """Return the median, with the range in brackets."""
    median, low, high = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
    return f"{median} ({low} to {high})"
