"""The search: everything that knows Ray. `run.run_sweep` is the way in."""

import os
from pathlib import Path

try:
    Path.home()
except RuntimeError:  # a container's user without an entry in the list of users
    os.environ["HOME"] = "/"  # Ray looks for the home folder while it is imported
