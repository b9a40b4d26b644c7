"""Sentences about normalisation by speaker, from the counts of `orchestrator.data.coverage`."""

from collections.abc import Iterator

from orchestrator.ledger.records import SpeakerCoverage

FEW_UTTERANCES = 10
FEW_SECONDS = 30.0
LARGE_SHARE = 0.1
"""Share of the utterances from which the remedy is to change the normalisation. Below it, the
remedy is a comparison, because normalisation by speaker may still help the others."""


def coverage_notes(coverage: SpeakerCoverage) -> Iterator[str]:
    """Sentences about normalisation by speaker on such a corpus, each with the remedy."""

    def remedy(share: float) -> str:
        return f"{'Set' if share >= LARGE_SHARE else 'Compare with'} features.normalize: train."

    speakers = coverage.speakers
    if coverage.one_class:
        yield (
            f"Speakers whose labelled utterances have one class only: {coverage.one_class} of "
            f"{coverage.labelled_speakers}, with {coverage.one_class_share:.0%} of the labelled "
            f"utterances. Normalisation by speaker subtracts their own mean, and with it what "
            f"tells the class. {remedy(coverage.one_class_share)}"
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
            "speakers, no scheme can keep them apart: the scores may be for known speakers."
        )
    elif coverage.short > coverage.one_utterance:
        yield (
            f"Speakers with fewer than {FEW_UTTERANCES} utterances or less than "
            f"{FEW_SECONDS:.0f} s: {coverage.short} of {speakers}. Their own mean and deviation "
            f"are uncertain. {remedy(coverage.short / speakers)}"
        )
