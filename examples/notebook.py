"""A whole session from Python: search, scores, predictions, a network, and a comparison.

    python examples/notebook.py MANIFEST FOLDER

MANIFEST is a CSV file with the columns file, speaker, emotion and session. The sweeps go to FOLDER.
Editors that know `# %%` run this file cell by cell.
"""

# %% Two configurations on the same corpus and folds
import sys

import pyarrow.compute as pc
import torch

import orchestrator
from ser_models.sequences import Padded

manifest, folder = sys.argv[1:3]
common = {
    "corpus": {"root": manifest, "classes": ["ang", "hap", "neu", "sad"]},
    "folds": {"scheme": "leave_one_session_out", "selection": "validation"},
    "storage": folder,
}
network = orchestrator.load(
    {
        **common,
        "name": "bigru",
        "model": {"name": "bigru_att", "hidden_size": 16, "attention_size": 16},
        "training": {"epochs": 4, "learning_rate": 3e-3},
        "search": {"space": "iaan_small", "trials": 2},
    }
)
machine = orchestrator.load({**common, "name": "svm", "model": {"name": "linear_svm"}})

# %% Search. The same line resumes a sweep that was interrupted
bigru = orchestrator.run(network)
svm = orchestrator.run(machine)

# %% Scores: plain values, with intervals
nested = bigru.scores()["nested"]["pooled"]["ua"]
print(f"nested UA of {bigru.name}: {nested:.3f}")
print(bigru.trials().select(["number", "status", "score"]))

# %% Predictions: an Arrow table, one row for each test utterance
predictions = bigru.predictions()
right = pc.mean(pc.equal(predictions["truth"], predictions["prediction"])).as_py()
print(f"{len(predictions)} test utterances, WA {right:.3f}")

# %% The network of one fold, as a PyTorch module
model = orchestrator.load_model(bigru, fold=predictions["fold"][0].as_py())
frames = Padded(torch.zeros(1, 20, 45), torch.tensor([20]))  # 20 frames of the 45 descriptors
print("posteriors of a neutral input:", model(frames).logits.softmax(dim=1).tolist())

# %% Is the second sweep really better?
comparison = orchestrator.compare(bigru, svm)
test = comparison.t_test
print(f"{svm.name} - {bigru.name}: {test.mean:+.3f} ({test.low:+.3f} to {test.high:+.3f})")
