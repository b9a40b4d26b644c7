"""From files, folders and manifests to labelled utterances: the work of `ser predict`."""

import math
from collections.abc import Sequence
from typing import get_args

from orchestrator.errors import UsageError, translated
from orchestrator.inference import reading
from orchestrator.inference.inputs import SpeakerFrom, requests
from orchestrator.inference.labelled import Labelled, label
from orchestrator.inference.model import SpeechModel
from orchestrator.inference.reading import Progress, Segment
from orchestrator.inference.speech import check_detector


@translated()
def recognise(
    model: SpeechModel,
    inputs: Sequence[str],
    speaker_from: str | None = None,
    segment: Segment = None,
    distributed: bool = False,
    progress: Progress = lambda done, total: None,
) -> Labelled:
    """Recognise the emotions of files, folders and manifests.

    speaker_from : `folder` or `none` (`orchestrator.inference.inputs.requests`)
    segment : cut recordings into windows of the same length, of at most so many seconds, or into
        stretches of `speech` (`orchestrator.inference.speech`)
    distributed : compute the features on a Ray cluster: the one at RAY_ADDRESS, or a local one
    progress : called with the numbers of recordings that are done, and of all

    Raises UsageError for wrong values, ConfigError for a manifest that cannot be used, and
    DependencyError for `speech` without the extra `vad`.
    """
    for kind in [None, *get_args(SpeakerFrom)]:
        if kind == speaker_from:
            break
    else:
        raise UsageError(f"--speaker-from: no {speaker_from!r}. Use folder or none")
    if segment == "speech":
        check_detector()
    elif segment is not None and not (math.isfinite(segment) and segment >= 0.1):
        raise UsageError(f"--segment: {segment:g} s is too short. Use at least 0.1")
    wanted = requests(inputs, kind)
    features = model.description.features
    if not distributed:
        return label(model, [*reading.read(wanted, features, segment, progress)])
    from orchestrator.inference.distributed import read
    from orchestrator.sweep.connection import check_own_code, cluster

    with cluster() as local:
        if not local:
            check_own_code([("features", features.name)])
        reads = [*read(wanted, features, segment, progress)]
    return label(model, reads)
