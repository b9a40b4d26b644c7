"""Arguments and options that several commands have."""

from typing import Annotated

import typer

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML configuration.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in a.b=c.")
]
SweepFolder = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's folder or URI.")]
Trust = Annotated[
    list[str],
    typer.Option("--trust", metavar="MODULE:NAME", help="Your own code that the sweep may import."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
