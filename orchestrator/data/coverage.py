"""Whether each speaker has enough recordings, of several classes, for a mean of his or her own.

Normalisation by speaker subtracts the mean of the speaker's own utterances. If all of them have the
same class, the mean is the mean of the class, and nothing is left by which a model could tell it.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from features.context import Indices
from features.manifest import Manifest
from orchestrator.data.audio_headers import read_headers
from orchestrator.data.folds import codes
from orchestrator.ledger.records import SpeakerCoverage

FEW_UTTERANCES = 10
FEW_SECONDS = 30.0
LARGE_SHARE = 0.1
"""Share of the utterances from which the remedy is to change the normalisation. Below it, the
remedy is a comparison, because normalisation by speaker may still help the others."""


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
        heard = read_headers(replace(manifest, table=part))
        if heard.seconds is None:
            return None
        if heard.problems:  # the length is not known
            return False
        total += heard.seconds
        if total >= FEW_SECONDS:
            return False
    return total > 0  # a missing file counts 0 s


def coverage_notes(coverage: SpeakerCoverage) -> Iterator[str]:
    """Sentences about normalisation by speaker on such a corpus, each with the remedy."""

    def remedy(share: float) -> str:
        return f"{'Set' if share >= LARGE_SHARE else 'Compare with'} features.normalize: train."

    speakers = coverage.speakers
    if coverage.one_class:
        yield (
            f"Speakers whose labelled utterances have one class only: {coverage.one_class} of "
            f"{coverage.labelled_speakers}, with {coverage.one_class_share:.0%} of the labelled "
            f"utterances. Normalisation by speaker subtracts their own mean. This also removes "
            f"the difference between the classes. {remedy(coverage.one_class_share)}"
        )
    if coverage.one_utterance:
        yield (
            f"Speakers with one utterance only: {coverage.one_utterance} of {speakers}. "
            f"Normalised by speaker, the functionals of such an utterance are all zeros. "
            f"{remedy(coverage.one_utterance / speakers)}"
        )
    if coverage.one_utterance == speakers:
        yield (
            "Each utterance has a speaker of its own. If the column speaker does not name the "
            "speakers, no scheme can keep the speakers apart: test speakers may also train."
        )
    elif coverage.short > coverage.one_utterance:
        yield (
            f"Speakers with fewer than {FEW_UTTERANCES} utterances or less than "
            f"{FEW_SECONDS:.0f} s: {coverage.short} of {speakers}. Their own mean and deviation "
            f"are uncertain. {remedy(coverage.short / speakers)}"
        )
