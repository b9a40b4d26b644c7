"""Use of the networks that a sweep trained, without Ray."""
