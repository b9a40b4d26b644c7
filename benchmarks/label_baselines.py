"""What labels alone score, and what a model makes of it, on a corpus without any emotion to hear.

In the corpus, 80 % of the utterances of a dialogue have the dialogue's own emotion. The sound is
noise. Its spectrum depends on the dialogue, its loudness on the speaker, and nothing on the
emotion. A model can therefore only recognise dialogues. Prints the table of
docs/label-baselines.md.

    python benchmarks/label_baselines.py [FOLDER]
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import soundfile
from scipy.signal import lfilter

from orchestrator import load, run

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
SESSIONS, DIALOGUES, TURNS = 5, 4, 40
OWN = 0.8
"""Share of the utterances of a dialogue that have its own emotion."""
SCHEMES = ("random_repeated", "leave_one_session_out")
RATE = 16_000


def rows(seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the manifest: 5 sessions of two speakers, 4 dialogues each, 40 turns each."""
    generator = np.random.default_rng(seed)
    table = []
    for session in range(1, SESSIONS + 1):
        for dialogue in range(DIALOGUES):
            own = dialogue % len(EMOTIONS)
            others = [c for c in range(len(EMOTIONS)) if c != own]
            emotions = np.repeat(own, TURNS)
            foreign = round((1 - OWN) * TURNS)
            emotions[generator.permutation(TURNS)[:foreign]] = generator.choice(others, foreign)
            for turn, emotion in enumerate(emotions.tolist()):
                name = f"s{session}d{dialogue}"
                table.append(
                    {
                        "file": f"wav/{name}_{turn:02d}.wav",
                        "speaker": f"s{session}{'ab'[turn % 2]}",
                        "session": str(session),
                        "dialogue": name,
                        "turn": turn,
                        "emotion": EMOTIONS[emotion],
                    }
                )
    return table


def make_corpus(folder: Path, seed: int = 0) -> Path:
    """Write the recordings, 0.6 s each, and the manifest. Returns the manifest's path."""
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    table = rows(seed)
    decay = np.exp(-np.arange(64) / 16)
    rooms = {row["dialogue"]: decay * generator.normal(size=64) for row in table}
    for row in table:
        noise = generator.normal(size=round(0.6 * RATE))
        coloured = lfilter(rooms[row["dialogue"]], [1.0], noise)
        loudness = 0.1 if row["speaker"].endswith("a") else 0.05
        soundfile.write(folder / row["file"], loudness * coloured / coloured.std(), RATE)
    pacsv.write_csv(pa.Table.from_pylist(table), folder / "manifest.csv")
    return folder / "manifest.csv"


def configuration(manifest: Path, scheme: str, storage: Path) -> dict[str, Any]:
    """The configuration of one run."""
    return {
        "name": scheme.replace("_", "-"),
        "corpus": {"root": str(manifest), "classes": list(EMOTIONS)},
        "model": {"name": "linear_svm"},
        "folds": {"scheme": scheme},
        "storage": str(storage),
    }


def main(folder: str = "runs/label-baselines") -> None:
    """Make the corpus, train under both schemes, and print the table."""
    root = Path(folder)
    manifest = make_corpus(root / "corpus")
    lines = []
    for scheme in SCHEMES:
        sweep = run(load(configuration(manifest, scheme, root / "runs")))
        scores = sweep.scores()["label_baselines"]
        cells = [f"{100 * each['ua']['value']:.1f}" for each in scores["given"].values()]
        model = scores["score"]
        between = f"{100 * model['low']:.1f} to {100 * model['high']:.1f}"
        cells.append(f"{100 * model['value']:.1f} ({between})")
        lines.append(f"| `{scheme}` | {' | '.join(cells)} |")
        names = list(scores["given"])
    print(f"| scheme | {' | '.join(names)} | `linear_svm` |")
    print("|---" * (len(names) + 2) + "|")
    print("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
