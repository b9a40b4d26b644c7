"""The command line `ser`."""

from orchestrator.cli.commands import main

__all__ = ["main"]
