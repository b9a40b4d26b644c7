"""Training of all folds of a configuration, on one process or several, without Ray."""
