"""Run `ser` on the head of a cluster: `ray submit CLUSTER.yaml submit.py -- sweep my.yaml`.

`ray submit` copies this file to the home folder on the head and runs it there with `python`. `ser`
gets the arguments after `--`. Paths are paths on the head.
"""

import os

if __name__ == "__main__":
    # The token is in the head's ~/.ray/auth_token. Ray reads the mode when it is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_ADDRESS", "auto")

    from orchestrator.cli.commands import main

    main()
