"""YAML as plain values: no tag makes an object, and no few bytes make a large or endless one."""

from typing import Any

import yaml

MOST_VALUES = 2_000_000
"""After aliases are written out: nested, a few lines of them stand for any number."""
DEEPEST = 100
"""The fast parser crashes the process far below."""


class YamlError(ValueError):
    """Text that is not YAML of plain values. The message is one line."""


def load_plain(text: str | bytes) -> Any:
    """The value of a YAML document. Raises YamlError."""
    try:
        _check_size(text)
        return yaml.load(text, Loader=yaml.CSafeLoader)
    # Dates and numbers that are none are ValueErrors.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise YamlError(" ".join(str(error).split())) from None


def _check_size(text: str | bytes) -> None:
    """Raise YamlError for nesting below `DEEPEST`, and for more than `MOST_VALUES` values."""
    anchored: dict[str, int] = {}  # values in what has a name
    open_: list[tuple[str | None, int]] = []  # name, and values before it
    total = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchored:
                raise YamlError(f"*{event.anchor} stands for nothing, or for what it is part of")
            total += anchored[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                anchored[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, total))
            total += 1
            if len(open_) > DEEPEST:
                raise YamlError(f"more than {DEEPEST} levels of nesting")
        elif isinstance(event, yaml.CollectionEndEvent):
            name, before = open_.pop()
            if name is not None:
                anchored[name] = total - before
        if total > MOST_VALUES:
            raise YamlError(f"more than {MOST_VALUES} values")
