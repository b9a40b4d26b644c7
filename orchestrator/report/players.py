"""Recordings of a few utterances inside the page, as FLAC in data URIs."""

import base64
import io
from collections.abc import Iterable

from features.audio import decode, fetch
from features.errors import AudioError, DecoderError
from features.manifest import Manifest
from features.signal import SAMPLE_RATE

MOST_BYTES = 1_000_000
"""Length of all data URIs of a page."""


def players(manifest: Manifest, utterances: Iterable[str]) -> dict[str, str]:
    """Utterance -> its recording as a data URI: 16 kHz, mono, 16 bits, FLAC.

    Utterances come in the order of their importance. One that would exceed `MOST_BYTES`, that is
    not in the manifest, or whose recording cannot be read, is left out: a page needs no audio.
    """
    import soundfile

    wanted = list(dict.fromkeys(utterances))
    table = manifest.table.select(["id", "file", "start", "end"])
    rows = {row["id"]: row for row in table.to_pylist() if row["id"] in set(wanted)}
    found: dict[str, str] = {}
    left, recordings = MOST_BYTES, manifest.recordings()
    for name in wanted:
        if name not in rows:
            continue
        row = rows[name]
        try:
            file = fetch(recordings, row["file"])
            samples = decode(file, row["start"], row["end"])
        except (AudioError, DecoderError, OSError):
            continue
        sink = io.BytesIO()
        soundfile.write(sink, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        uri = f"data:audio/flac;base64,{base64.b64encode(sink.getvalue()).decode()}"
        if len(uri) <= left:
            found[name] = uri
            left -= len(uri)
    return found
