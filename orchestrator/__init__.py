"""Folds, trials, sweeps and reports on Ray."""
