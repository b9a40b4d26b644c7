"""Corpora by name. A reader takes the corpus's root and returns its manifest."""

from collections.abc import Callable

from features.manifest import Manifest, read_manifest

CORPORA: dict[str, Callable[[str], Manifest]] = {
    "manifest": read_manifest,
}
