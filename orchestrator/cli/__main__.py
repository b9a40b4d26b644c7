import sys
from pathlib import Path

# `python -m` searches the working directory first, which may hold a numpy.py of the user.
if Path(sys.path[0]).resolve() == Path.cwd() != Path(__file__).resolve().parents[2]:
    del sys.path[0]

from ser_orchestrator import main

main()
