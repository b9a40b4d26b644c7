"""Whether each speaker has enough recordings, of several classes, for a mean of his or her own.

Normalisation by speaker subtracts the mean of the speaker's own utterances. If all of them have the
same class, the mean is the mean of the class, and nothing is left by which a model could tell it.
"""

from dataclasses import replace

import numpy as np

from features.context import Indices
from features.manifest import Manifest
from orchestrator.data.audio_headers import read_headers
from orchestrator.data.coverage_notes import FEW_SECONDS, FEW_UTTERANCES
from orchestrator.data.folds import codes
from orchestrator.ledger.records import SpeakerCoverage


def speaker_coverage(manifest: Manifest, labels: Indices) -> SpeakerCoverage:
    """Count the speakers with one class, with one utterance, and with few recordings.

    labels : (utterances,) class, negative without a class

    The length of a recording comes from the manifest, or else from the header of the local file. An
    unknown length is not short. Headers are read only until a speaker has enough seconds.
    """
    speaker, names = codes(manifest.table["speaker"])
    utterances = np.bincount(speaker, minlength=len(names))
    labelled = labels >= 0
    pairs = np.unique(np.stack([speaker, labels])[:, labelled], axis=1)
    classes = np.bincount(pairs[0], minlength=len(names))
    theirs = np.bincount(speaker[labelled], minlength=len(names))
    short = utterances < FEW_UTTERANCES
    rows = np.split(np.argsort(speaker, kind="stable"), np.cumsum(utterances)[:-1])
    for number in np.flatnonzero(~short):
        answer = _is_short(manifest, rows[number])
        if answer is None:
            break
        short[number] = answer
    return SpeakerCoverage(
        speakers=len(names),
        labelled_speakers=int((classes > 0).sum()),
        one_class=int((classes == 1).sum()),
        one_class_share=float(theirs[classes == 1].sum() / max(labelled.sum(), 1)),
        one_utterance=int((utterances == 1).sum()),
        short=int(short.sum()),
    )


def _is_short(manifest: Manifest, rows: Indices) -> bool | None:
    """Whether these utterances are known to have less than `FEW_SECONDS` together.

    None if the recordings would have to be fetched from a remote storage.
    """
    total = 0.0
    for start in range(0, len(rows), FEW_UTTERANCES):
        part = manifest.table.take(rows[start : start + FEW_UTTERANCES])
        headers = read_headers(replace(manifest, table=part))
        if headers.seconds is None:
            return None
        if headers.problems:  # a length that is not known is not short
            return False
        total += headers.seconds
        if total >= FEW_SECONDS:
            return False
    return total > 0  # a missing file counts 0 s
