"""Reads the ledger of a sweep: the best trial, its scores, and the comparison of two sweeps."""
