"""Texts that mean "no value", and names that look alike."""

import pytest

from features.names import means_no_value, shown, spelling

ALIKE = {
    "case": ("Anger", "anger", "ANGER"),
    "spaces": ("very sad", "verysad", " very  sad ", "very\xa0sad", "very\u2009sad"),
    "invisible": ("anger", "an\u200bger", "\ufeffanger", "anger\u2060", "\u202aanger\u202c"),
    "composed": ("fröhlich", "fro\u0308hlich", "FRÖHLICH"),
    "wide": ("anger", "".join(chr(ord(c) + 0xFEE0) for c in "anger")),
    "sharp s": ("Spaß", "spass"),
    "numbers": ("1", "01", "001", "1.0", "1."),
    "zero": ("0", "00", "0.0"),
    "fillers": ("화", "화\u3164"),
}
APART = ("anger", "angry", "ange", "1", "10", "1.5", "-1", "spk1", "spk01", "a", "á", "가", "각")


@pytest.mark.parametrize("names", ALIKE.values(), ids=list(ALIKE))
def test_names_that_only_a_mistake_tells_apart_have_one_spelling(names: tuple[str, ...]) -> None:
    assert len({spelling(name) for name in names}) == 1


def test_other_names_have_different_spellings() -> None:
    assert len({spelling(name) for name in APART}) == len(APART)


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "nan", "NA", "N/A", "None", "NULL", "null", "#N/A", "<NA>", "NaT", "n/a", "none"),
        *("#REF!", "", " ", "\xa0", "\u200b", "\ufeff \u200b"),
    ],
)
def test_texts_that_mean_no_value(text: str) -> None:
    assert means_no_value(text)


@pytest.mark.parametrize("text", ["Nan", "Na", "na", "NAT", "0", "-", "?", "unknown", "Nona", "no"])
def test_texts_that_may_be_names(text: str) -> None:
    assert not means_no_value(text)


def test_a_shown_name_has_an_escape_for_each_character_that_cannot_be_seen() -> None:
    assert shown("Ärger") == "'Ärger'"
    assert shown("an\u200bger\xa0") == r"'an\u200bger\xa0'"
    assert shown("A\u0308rger") == r"'A\u0308rger'"
