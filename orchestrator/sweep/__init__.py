"""The search: everything that knows Ray. `run.run_sweep` is the way in."""
