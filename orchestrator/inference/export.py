"""From a sweep to a folder that is a model: the work of `ser export`."""

from collections.abc import Mapping, Sequence

from features.storage import Storage
from orchestrator.errors import FolderError, translated
from orchestrator.inference import exported
from orchestrator.inference.card import CARD, card
from orchestrator.inference.model import load_model
from orchestrator.inference.onnx_file import FILE, onnx_bytes
from orchestrator.results.opened import OpenedSweep


@translated()
def export_model(
    sweep: OpenedSweep,
    folder: str,
    trial: str | None = None,
    fold: str | None = None,
    onnx: bool = False,
    refit: bool = False,
    trust: Sequence[str] = (),
    features: Mapping[str, str] | None = None,
) -> list[str]:
    """Write a model, its card and perhaps its ONNX file; return the paths of the files.

    folder : a new or empty folder, or an older export, which is replaced
    trial, fold, refit, trust, features : as in `orchestrator.load_model`
    onnx : whether to write `model.onnx`, for which the extra `onnx` is needed

    Raises FolderError if the folder holds something else.
    """
    model = load_model(sweep, trial, fold, refit, features, trust)
    target = Storage.open(folder)
    names = target.list()
    ours = {exported.MODEL, exported.WEIGHTS, CARD, FILE}
    if names and exported.MODEL not in names:
        raise FolderError(f"{folder} holds {names[0]}, so it is no export. Choose a new folder")
    data = onnx_bytes(model) if onnx else None
    for name in ours & set(names):  # an older file must not stay beside the new ones
        target.delete(name)
    target.write(CARD, card(sweep, model, onnx).encode())
    if data is not None:
        target.write(FILE, data)
    exported.write_model(model, target)
    written = [CARD, exported.WEIGHTS, exported.MODEL, *([FILE] if onnx else [])]
    return [target.path(name) for name in written]
