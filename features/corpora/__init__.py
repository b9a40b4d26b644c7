"""Readers of corpora by name: each takes the root of a corpus and returns its manifest.

The manifest's `problems` list everything that a reader skipped. A reader raises ManifestError if
the root is not the corpus, or if two rows would have the same id.
"""

from collections.abc import Callable

from features.corpora.att_hack import read_att_hack
from features.corpora.audformat import read_audformat
from features.corpora.crema_d import read_crema_d
from features.corpora.emobox import read_emobox
from features.corpora.emodb import read_emodb
from features.corpora.iemocap import read_iemocap
from features.corpora.nemo import read_nemo
from features.corpora.own import read_own
from features.corpora.ravdess import read_ravdess
from features.manifest import Manifest

CORPORA: dict[str, Callable[[str], Manifest]] = {
    "att_hack": read_att_hack,
    "audformat": read_audformat,
    "crema_d": read_crema_d,
    "emobox": read_emobox,
    "emodb": read_emodb,
    "iemocap": read_iemocap,
    "manifest": read_own,
    "nemo": read_nemo,
    "ravdess": read_ravdess,
}
