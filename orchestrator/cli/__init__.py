"""The command line `ser`: commands, and the tables that they print."""

from orchestrator.cli.commands import main

__all__ = ["main"]
