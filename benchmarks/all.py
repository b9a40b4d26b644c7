"""All benchmarks of speed, and the tables of docs/performance.md, which they write.

    make bench
    make bench-scale    # the tables of SCALE, which `make bench` leaves out
    python benchmarks/all.py [NAME ...]     # only some tables

Extraction and epochs use nEMO if SER_NEMO or ../shared/data/nemo is its folder, and made corpora
otherwise. Use a quiet machine with two cores. The whole takes at most 20 minutes.
"""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from features.corpora.demo import make_demo_corpus

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
NEMO = Path(os.environ.get("SER_NEMO", HERE.parents[1] / "shared" / "data" / "nemo"))


SCALE = ("search_scale", "search_ray", "search_lag", "data_scale")


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the script and its arguments of each table."""
    nemo = NEMO / "manifest.csv"
    if nemo.is_file():
        speech, with_nemo = str(nemo), ["--nemo", str(nemo)]
    else:
        speech, with_nemo = make_demo_corpus(str(folder / "corpus")), []
    planted = ["--folder", str(folder / "planted")]
    return {
        "trials": ["trials.py"],
        "phases": ["phases.py"],
        "extraction": ["extraction.py", speech, "--rounds", "2"],
        "encoders": ["encoders.py"],
        "epochs": ["epochs.py", *with_nemo, *planted],
        "precision": ["precision.py", *planted],
        "start_up": ["start_up.py"],
        "latency": ["latency.py"],
        "search_rules": ["search_rules.py"],
        "search_scale": ["search_scale.py"],
        "search_ray": ["search_ray.py"],
        "search_lag": ["search_lag.py"],
        "data_scale": ["data_scale.py"],
    }


def machine() -> str:
    """Describe the machine and the versions."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.is_file() else []
    name = names[0] if names else platform.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}"
        for package in ("torch", "ray", "numpy", "opensmile")
    )
    return f"{name}, {cores} cores, Python {platform.python_version()}, {versions}."


def replaced(page: str, table: str, text: str) -> str:
    """Return the page with a new text between the marks of a table."""
    first, last = f"<!-- {table} -->", f"<!-- /{table} -->"
    before, _, rest = page.partition(first)
    _, mark, after = rest.partition(last)
    if not mark:
        raise SystemExit(f"{PAGE}: the marks of {table} are missing")
    return f"{before}{first}\n{text.strip()}\n{last}{after}"


def main(wanted: list[str]) -> None:
    """Run the benchmarks, and write each table as soon as it is there.

    If a script fails, its table stays as it was, and the others still run.
    """
    began, failed = time.monotonic(), []
    with tempfile.TemporaryDirectory() as name:
        tables = commands(Path(name))
        if unknown := [table for table in wanted if table not in tables]:
            raise SystemExit(f"no table {unknown[0]}: use {', '.join(tables)}")
        texts = {"machine": machine()}
        for table in wanted or [table for table in tables if table not in SCALE]:
            script, *arguments = tables[table]
            print(f"{table}: {script}", file=sys.stderr, flush=True)
            done = subprocess.run(
                [sys.executable, str(HERE / script), *arguments],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                failed.append(table)
                continue
            texts[table] = done.stdout
            print(done.stdout, flush=True)
            page = PAGE.read_text(encoding="utf-8")
            for mark, text in texts.items():
                page = replaced(page, mark, text)
            PAGE.write_text(page, encoding="utf-8")
    print(f"{(time.monotonic() - began) / 60:.1f} min", file=sys.stderr)
    if failed:
        raise SystemExit(f"failed, and not written: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
