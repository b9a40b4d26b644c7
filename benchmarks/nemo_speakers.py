"""How the number of speakers in training decides a model's score on nEMO.

A support vector machine on means and deviations of the 45 descriptors. It trains on one session (as
`leave_one_session_out` with a validation part does), on two sessions, on all speakers except one,
and on the tested speakers themselves. Prints the UA of each split.

    python benchmarks/nemo_speakers.py NEMO/manifest.csv
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from features.storage import Storage
from orchestrator.config.parsing import load
from orchestrator.data.prepare import plan_folds, prepare

EXAMPLE = Path(__file__).parents[1] / "examples" / "nemo.yaml"


def main(manifest: str, storage: str = "runs") -> None:
    """Print one line for each protocol."""
    configuration = load(str(EXAMPLE), [f"corpus.root={manifest}"])
    plan = plan_folds(configuration)
    prepared = prepare(plan, Storage.open(storage), lambda done, total, error: None)
    data = prepared.dataset
    turns = [data.frames[a:b] for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)]
    functionals = np.stack([np.r_[turn.mean(axis=0), turn.std(axis=0)] for turn in turns])
    speakers = np.asarray(data.speakers)
    folds = prepared.folds
    protocols = {
        "one session, two speakers": [(f.train, f.test) for f in folds],
        "two sessions, four speakers": [(np.r_[f.train, f.validation], f.test) for f in folds],
        "all speakers except the tested one": LeaveOneGroupOut().split(speakers, groups=speakers),
        "the tested speakers themselves": StratifiedKFold(5, shuffle=True, random_state=0).split(
            functionals, data.labels
        ),
    }
    for name, splits in protocols.items():
        ua = []
        for train, test in splits:
            machine = make_pipeline(StandardScaler(), SVC())
            machine.fit(functionals[train], data.labels[train])
            predicted = machine.predict(functionals[test])
            ua.append(balanced_accuracy_score(data.labels[test], predicted))
        print(f"trained on {name}: UA {np.mean(ua):.3f} (splits {np.round(ua, 3)})")


if __name__ == "__main__":
    main(*sys.argv[1:])
