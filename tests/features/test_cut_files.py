"""Files of every format, cut at any place: all samples are there, or the file is refused."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.signals import RATE, decoded, encode, noise, outcome

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "ULAW"),
    ("WAV", "IMA_ADPCM"),
    ("WAVEX", "PCM_U8"),
    ("RF64", "PCM_16"),
    ("RF64", "DOUBLE"),
    ("W64", "PCM_16"),
    ("W64", "GSM610"),
    ("AIFF", "PCM_16"),
    ("AIFF", "ALAW"),
    ("AIFF", "FLOAT"),
    ("AU", "PCM_16"),
    ("AU", "G721_32"),
    ("NIST", "PCM_16"),
    ("NIST", "ULAW"),
    ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("SVX", "PCM_16"),
    ("AVR", "PCM_16"),
    ("VOC", "PCM_16"),
    ("MAT4", "PCM_16"),
]


@functools.cache
def recording(kind: str, subtype: str, samples: int) -> tuple[bytes, np.ndarray]:
    data = encode(noise(samples), kind=kind, subtype=subtype)
    return data, decoded(data)


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
@given(samples=st.sampled_from([RATE // 4, RATE, 3 * RATE + 1]), place=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_a_part_is_never_read_as_the_whole(
    kind: str, subtype: str, samples: int, place: float
) -> None:
    data, want = recording(kind, subtype, samples)
    assert abs(len(want) - samples) < 1000
    result = outcome(data[: int(place * len(data))])
    if not isinstance(result, str):
        np.testing.assert_array_equal(result, want)


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
@pytest.mark.parametrize("lost", [1, 2, 3, 50])
def test_the_last_bytes_matter(kind: str, subtype: str, lost: int) -> None:
    data, want = recording(kind, subtype, RATE)
    result = outcome(data[:-lost])
    if not isinstance(result, str):  # the bytes were no samples, but padding or a chunk after them
        np.testing.assert_array_equal(result, want)


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
@given(place=st.floats(0.02, 1), samples=st.sampled_from([RATE // 4, RATE]))
@settings(max_examples=15, deadline=None)
def test_damage_never_ends_in_another_error(
    kind: str, subtype: str, place: float, samples: int
) -> None:
    data = bytearray(recording(kind, subtype, samples)[0])
    at = int(place * (len(data) - 8))
    data[at : at + 8] = bytes([255, 0, 128, 7, 255, 255, 1, 64])
    outcome(bytes(data))


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
@given(places=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_damage_of_a_header_never_ends_in_another_error(
    kind: str, subtype: str, places: list[tuple[int, int]]
) -> None:
    data = bytearray(recording(kind, subtype, RATE // 4)[0])
    for at, value in places:
        data[at] = value
    outcome(bytes(data))
