"""`--distributed` gives the bits of one process."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from orchestrator.inference.model import load_model
from orchestrator.inference.reading import Segment
from orchestrator.inference.recognise import recognise
from tests.support.small_sweep import Sweeps, rows_of


@pytest.mark.usefixtures("ray_cluster")
def test_workers_of_ray_give_the_same_bits(
    sweeps: Sweeps, spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.inference.distributed._BLOCK", 5)  # two blocks a run
    folder, prepared = sweeps("iaan")
    model = load_model(str(folder))
    runs: list[tuple[Segment, int]] = [(None, 8), (1.0, 8)]
    if find_spec("silero_vad"):
        runs.append(("speech", 8))
    for segment, count in runs:
        manifest = rows_of(spoken, set(prepared.dataset.ids[:count]), tmp_path / f"{count}.csv")
        with manifest.open("a") as table:
            table.write("broken,missing.wav,,,x,,,\n")
        alone = recognise(model, [str(manifest)], segment=segment)
        steps: list[int] = []
        spread = recognise(
            model,
            [str(manifest)],
            segment=segment,
            distributed=True,
            progress=lambda done, total, steps=steps: steps.append(done),
        )
        assert spread.table.equals(alone.table)
        assert spread.skipped == alone.skipped
        assert len(alone.skipped) == 1
        assert steps[-1] == count + 1
