"""One tiny encoder of each kind, saved once for all tests."""

from pathlib import Path

import pytest

from tests.support.encoders import tiny_encoder

KINDS = ("wavlm", "hubert", "wav2vec2")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folder of each kind of encoder. Do not change the files: copy the folder first."""
    root: Path = tmp_path_factory.mktemp("encoders")
    return {kind: tiny_encoder(root / kind, kind) for kind in KINDS}
