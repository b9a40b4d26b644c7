"""The aggregated report of a sweep."""
