"""Readers of corpora: each a function from a root to a manifest, chosen by name."""
