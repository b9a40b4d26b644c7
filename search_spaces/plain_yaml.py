"""YAML without its surprises.

PyYAML reads YAML 1.1, in which `0011` is 9, `1:30` is 90, `2024-01-01` is a date, and `1e-3` is
text. If a key is given twice, only the last value counts. Here `1e-3` is a number, and the others
are errors that say how to write the value.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import yaml

UNREADABLE = (yaml.YAMLError, OSError, ValueError, RecursionError)
"""Errors of a text that is not YAML. Other encodings and impossible numbers raise ValueError."""

_TAG = "tag:yaml.org,2002:"
_TYPED = {_TAG + kind for kind in ("int", "float", "bool", "timestamp", "value")}
"""Tags that YAML gives unquoted text by its form. `null` is not here: the key is then not set."""
_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+")


class SurpriseError(ValueError):
    """A value that YAML reads in another way than most people, or a key that is given twice.

    line : from 1
    problem : the problem and its remedy
    """

    def __init__(self, node: yaml.Node, problem: str) -> None:
        self.line = node.start_mark.line + 1
        self.problem = problem
        super().__init__(f"line {self.line}: {problem}")


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Check the keys here, because later the mapping also has the keys of its `<<`."""
        mapping = super().compose_mapping_node(anchor)
        assert isinstance(mapping, yaml.MappingNode)
        first: dict[str, yaml.Node] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _TAG + "merge":
                continue
            if first.setdefault(key.value, key) is not key:
                line = first[key.value].start_mark.line + 1
                raise SurpriseError(
                    key, f"the key {key.value} is also in line {line}. Keep one of the two"
                )
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """A number. Raises SurpriseError for a leading zero that means octal, and for `1:30`."""
        read = self.construct_yaml_int if node.tag == _TAG + "int" else self.construct_yaml_float
        value = read(node)
        digits = node.value.replace("_", "").lstrip("+-")
        if ":" in digits or (digits.isdecimal() and int(digits) != abs(value)):
            raise SurpriseError(
                node,
                f"YAML reads {node.value} as {value}. Write a number without leading zeros and "
                f"colons, or quote it if it is text: '{node.value}'",
            )
        return value

    def construct_date(self, node: yaml.ScalarNode) -> Any:
        """Raises SurpriseError, because no key takes a date."""
        raise SurpriseError(
            node, f"YAML reads {node.value} as a date. Quote it if it is text: '{node.value}'"
        )


_Loader.add_implicit_resolver(_TAG + "float", re.compile(f"{_EXPONENT.pattern}$"), "-+.0123456789")
_Loader.add_constructor(_TAG + "int", _Loader.construct_number)
_Loader.add_constructor(_TAG + "float", _Loader.construct_number)
_Loader.add_constructor(_TAG + "timestamp", _Loader.construct_date)


def load_yaml(text: str, as_written: Iterable[tuple[str, ...]] = ()) -> Any:
    """The plain values of a YAML text.

    as_written : paths of keys; `*` stands for any key. Values there, and below, are text as it
        stands in the file, so that a class may be called `0011`, `no` or `1e-3` without quotes.

    Raises SurpriseError, or one of `UNREADABLE`.

    >>> load_yaml("{classes: [01, no], epochs: 5}", [("classes",)])
    {'classes': ['01', 'no'], 'epochs': 5}
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        for path in as_written:
            _keep_text(root, path, set())
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _keep_text(
    node: yaml.Node | None, path: tuple[str, ...], seen: set[tuple[int, tuple[str, ...]]]
) -> None:
    """Make text of all typed scalars at `path` and below. An alias may contain itself."""
    if node is None or (id(node), path) in seen:
        return
    seen.add((id(node), path))
    if isinstance(node, yaml.ScalarNode):
        if not path and node.tag in _TYPED:
            node.tag = _TAG + "str"
    elif isinstance(node, yaml.SequenceNode):  # under a path: the mappings of a `<<`
        for item in node.value:
            _keep_text(item, path, seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not path:
                _keep_text(key, (), seen)
            if not path or key.tag == _TAG + "merge":
                _keep_text(value, path, seen)
            elif path[0] in (key.value, "*"):
                _keep_text(value, path[1:], seen)


def as_yaml(value: object) -> str:
    """A plain value as YAML on one line, with an escape for each character that cannot be seen."""
    for allow_unicode in (True, False):
        text = yaml.safe_dump(
            value,
            default_flow_style=True,
            allow_unicode=allow_unicode,
            width=10**6,
            sort_keys=False,
        )
        text = text.removesuffix("\n...\n").strip()
        if text.isprintable() and unicodedata.is_normalized("NFC", text):
            break
    return text
