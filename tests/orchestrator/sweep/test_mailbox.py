"""The process between a trial and the workers of its slot."""

import subprocess
import sys


def test_the_mailbox_imports_no_torch() -> None:
    """Torch takes seconds and hundreds of MB, and the process only passes messages on."""
    code = "import sys, orchestrator.sweep.mailbox; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
