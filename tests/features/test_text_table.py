"""Text tables in the separators, encodings and shapes that people have."""

import codecs
from itertools import product

import pytest

from features.errors import ManifestError
from features.text_table import decode, read_text_table

NAMES = ("file", "speaker", "emotion")
TABLES = {
    "plain": [["file", "speaker", "emotion"], ["a.wav", "s1", "neu"]],
    "letters": [["speaker", "file", "emotion", "text"], ["Zoë", "ä/ś.wav", "Ärger", "żółć — 話"]],
    "values with separators": [
        ["emotion", "file", "speaker", "text"],
        ["ang", "a,b;c.wav", "x\ty|z", 'She said: "No; never, ever"\nand left'],
        ["", " ", "  s ", ""],
    ],
}
MARKED = {
    "utf-8": (b"", "UTF-8"),
    "utf-8-sig": (b"", "UTF-8"),
    "utf-16-le": (codecs.BOM_UTF16_LE, "UTF-16"),
    "utf-16-be": (codecs.BOM_UTF16_BE, "UTF-16"),
    "utf-32-le": (codecs.BOM_UTF32_LE, "UTF-32"),
}
"""The byte order mark that Python does not write, and the encoding, by codec."""


def written(rows: list[list[str]], separator: str, end: str = "\r\n") -> str:
    """The text of a table, with every value in quotes that needs them."""

    def quoted(value: str) -> str:
        special = any(character in value for character in f'{separator}"\n')
        return f'"{value.replace(chr(34), chr(34) * 2)}"' if special else value

    return "".join(separator.join(map(quoted, row)) + end for row in rows)


def columns(rows: list[list[str]]) -> dict[str, list[str]]:
    return dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True))


@pytest.mark.parametrize(
    ("rows", "separator", "codec"),
    [
        pytest.param(TABLES[name], separator, codec, id=f"{name}, {separator!r}, {codec}")
        for name, separator, codec in product(TABLES, ",;\t|", MARKED)
    ],
)
def test_any_separator_and_encoding_gives_the_same_table(
    rows: list[list[str]], separator: str, codec: str
) -> None:
    mark, encoding = MARKED[codec]
    for end in ("\r\n", "\n"):
        table = read_text_table(mark + written(rows, separator, end).encode(codec), NAMES)
        assert table == (columns(rows), separator, encoding)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", TABLES)
def test_utf_16_without_a_byte_order_mark_is_told_by_the_header(name: str, codec: str) -> None:
    table = read_text_table(written(TABLES[name], "\t").encode(codec), NAMES)
    assert (table.columns, table.encoding) == (columns(TABLES[name]), "UTF-16")


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;;"])
def test_a_sep_line_names_the_separator(line: str) -> None:
    # The commas would give all columns too.
    text = f'{line}\r\nfile;"speaker";emotion;"file,speaker,emotion"\r\na.wav;s;neu;x\r\n'
    table = read_text_table(text.encode(), NAMES)
    assert table.separator == ";"
    assert table.columns["file"] == ["a.wav"]
    assert table.columns["file,speaker,emotion"] == ["x"]


def test_a_sep_line_may_name_an_unusual_separator() -> None:
    table = read_text_table(b"sep=^\nfile^speaker^emotion\na^b^c\n", NAMES)
    assert table.columns == {"file": ["a"], "speaker": ["b"], "emotion": ["c"]}


@pytest.mark.parametrize(
    "text",
    [
        "file,speaker,emotion,,,\na,s,neu,,,\nb,t,ang,,,\n",
        "file,speaker,emotion\na,s,neu,,\nb,t,ang\n,,\n , ,\n\n",
        "file,,speaker,emotion,\na,0,s,neu\nb,1,t,ang,\n",
        ",file,speaker,emotion\n0,a,s,neu\n1,b,t,ang\n",
    ],
    ids=["trailing separators", "empty rows", "empty columns", "the index of pandas"],
)
def test_empty_columns_and_rows_are_skipped(text: str) -> None:
    for separator in ",;\t":
        table = read_text_table(text.replace(",", separator).encode(), NAMES)
        assert table.columns == {
            "file": ["a", "b"],
            "speaker": ["s", "t"],
            "emotion": ["neu", "ang"],
        }


@pytest.mark.parametrize("word", ["José", "Zürich", "“quoted” €5", "façade à l\u2019œuvre"])
def test_windows_1252_is_read_if_the_text_is_not_utf_8(word: str) -> None:
    table = read_text_table(f"file,speaker,emotion\na,{word},b\n".encode("cp1252"), NAMES)
    assert table.columns["speaker"] == [word]
    assert table.encoding == "Windows-1252"
    assert read_text_table(f"file,speaker\na,{word}\n".encode(), NAMES).encoding == "UTF-8"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "file,speaker,emotion\na,メール,b\n".encode("shift_jis"),
            "neither UTF-8 nor Windows-1252",
        ),
        ("ﬁle".encode("utf-16")[:-1], "not UTF-16"),
        (codecs.BOM_UTF8 + b"file,speaker,emotion\na,Jos\xe9,c\n", "not UTF-8 .*as UTF-8"),
        (b"file,speaker,emotion\na,b,c\nd,e\nf,g,h,i\n", "header, 3.*row 2: 2 values; row 3: 4"),
        (b"file;speaker;emotion\na;b;c\nd;e\n", "contains ';' into quotes. row 2: 2 values"),
        (b"file,speaker,emotion,file\n", "repeats a column name: file, speaker, emotion, file"),
        (
            b'file,speaker,emotion\na,"b,c\nd,e,f\ng,h,i\n',
            r'a quote \("\) in row 1 is never closed',
        ),
        (b'file,speaker,emotion,text\na,b,c,\nd,e,f,"\ng,h,i,\n', r"in row 2 is never closed"),
        (b"file,speaker,emotion\na,b," + b"c" * 200_000, "not CSV: field larger"),
    ],
)
def test_other_text_is_refused_with_the_place(data: bytes, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_text_table(data, NAMES)


def test_decoding_never_fails_if_errors_are_replaced() -> None:
    assert decode(b"a\x81b", errors="replace") == ("a\ufffdb", "Windows-1252")
    assert decode(b"\xff\xfea\x00b", errors="replace") == ("a\ufffd", "UTF-16")
    assert decode(b"\xef\xbb\xbfa\xff", errors="replace") == ("\xef\xbb\xbfa\xff", "Windows-1252")
