"""The start of `ser`, outside the packages, because files of other projects may hide the packages.

Python searches the folders of PYTHONPATH before the installed packages, and names such as
`features` are common. The name of this module is not.
"""

import atexit
import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("features", "orchestrator", "search_spaces", "ser_models")
LIBRARIES = (
    *(
        "audioread",
        "jinja2",
        "numpy",
        "opensmile",
        "optuna",
        "plotly",
        "pyarrow",
        "pydantic",
        "ray",
    ),
    *("rich", "safetensors", "scipy", "sklearn", "soxr", "torch", "typer", "yaml"),
)
"""Packages that this program imports. A script of one of these names is not the library."""


def hiding_file() -> tuple[str, str] | None:
    """The first package that another file hides, and that file; None if all can be imported."""
    root = Path(__file__).resolve().parent
    for name in (*PACKAGES, *LIBRARIES):
        spec = find_spec(name)
        if spec is None:
            continue
        folders = list(spec.submodule_search_locations or [])
        ours = root / name in [Path(folder).resolve() for folder in folders]
        if not (folders if name in LIBRARIES else ours):
            return name, spec.origin or folders[0]
    return None


def use_utf8() -> None:
    """Restart this process in Python's UTF-8 mode if the locale has another encoding.

    Otherwise Python could not open files whose names have other letters. Both outputs keep their
    encoding.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def collect_rarely() -> None:
    """Let Python search for unreachable objects less often, and not at its end.

    The libraries make a million objects that stay. By default, Python searches all of them again
    and again while it imports, and at its end, which takes about a second (benchmarks/start_up.py).
    """
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)  # runs last, because it is registered first


def main() -> None:
    """Run `ser`, or end with exit code 1 if a file hides one of the packages."""
    use_utf8()
    collect_rarely()
    if hidden := hiding_file():
        name, file = hidden
        print(
            f"ser: {file} hides the package {name}, which this program needs. Remove the "
            f"file's folder from PYTHONPATH, or rename the file",
            file=sys.stderr,
        )
        sys.exit(1)
    from orchestrator.cli import main

    main()
