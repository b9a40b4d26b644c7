"""A model as a folder: `model.json` and `weights.safetensors`, and how they are written and read.

Nothing in the folder is code, and no name in it becomes a path: the two names are fixed. Everything
is checked before memory is allocated for it: sizes, digests, keys, types and shapes. The folder may
come from anybody, so each fault ends in one LedgerError.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow.fs as pafs
import torch
from pydantic import Field, StringConstraints, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save
from torch import Tensor

from features.errors import FeatureError
from features.extract import extraction_hash
from features.names import shown
from features.sets import FeatureConfig
from features.statistics import Statistics
from features.storage import Storage
from orchestrator.config import registry
from orchestrator.config.parsing import configuration_class, validate
from orchestrator.config.sections import ModelConfig
from orchestrator.errors import ConfigError, LedgerError
from orchestrator.inference.feature_files import check_contents, check_given
from orchestrator.inference.model import Description, Member, SpeechModel
from orchestrator.ledger.records import Digest, Record, TrialId
from orchestrator.ledger.seals import canonical_json, seal, sha256

logger = logging.getLogger(__name__)

MODEL, WEIGHTS = "model.json", "weights.safetensors"
LONGEST = 1 << 20
"""Bytes of a `model.json`. Real ones have some thousands."""
LARGEST = 1 << 16
"""Of a whole number among the hyperparameters. It bounds the time to lay out a network."""
_MOST_LAYERS = 64

_Text = Annotated[str, StringConstraints(max_length=1000)]


class ExportedMember(Record):
    """One network: its name and the number of its training speakers."""

    name: _Text
    speakers: int = Field(ge=1, le=10**6)


class ExportedModel(Record):
    """The content of `model.json`.

    name, trial : the sweep and its trial
    model, features : sections of the configuration
    classes : in the order of the posteriors
    seed : of random context turns
    refit : whether the networks trained on all labelled utterances
    members : the networks, whose posteriors are averaged. The tensors of network n start with `n.`
    typical_speakers : whether the tensors `n:mean` and `n:deviation` have the typical training
        speaker, with whom the statistics of a speaker with little audio are shrunk
    extraction : the hash of all that decided the training features
        (`features.extract.extraction_hash`); another one here gives a warning
    contents : of the files that the features come from (`FeatureSet.contents`); None: not recorded
    weights : SHA-256 of `weights.safetensors`
    size : its bytes
    """

    format: Literal[1] = 1
    name: _Text
    trial: TrialId
    model: dict[str, Any]
    features: dict[str, Any]
    classes: Annotated[list[_Text], Field(min_length=2, max_length=1000)]
    seed: int = Field(ge=0, lt=2**63)
    refit: bool = False
    members: Annotated[list[ExportedMember], Field(min_length=1, max_length=1000)]
    typical_speakers: bool
    extraction: _Text
    contents: Annotated[list[_Text], Field(max_length=1000)] | None = None
    weights: Digest
    size: int = Field(ge=0, lt=2**40)


def write_model(model: SpeechModel, folder: Storage) -> None:
    """Write the two files. `model.json` is written last, because it names the other's digest."""
    tensors: dict[str, Tensor] = {}
    by_speaker = model.description.features.group is not None
    for number, (name, network) in enumerate(model.networks.items()):
        state = network.state_dict()
        tensors |= {f"{number}.{key}": value.cpu().contiguous() for key, value in state.items()}
        if by_speaker:
            _, mean, deviation = model.typical_speakers[name]
            tensors[f"{number}:mean"] = torch.from_numpy(np.asarray(mean, np.float64).copy())
            tensors[f"{number}:deviation"] = torch.from_numpy(
                np.asarray(deviation, np.float64).copy()
            )
    data = save({name: value.clone() for name, value in tensors.items()})
    described = model.description
    record = ExportedModel(
        name=described.name,
        trial=described.trial,
        model=described.model.model_dump(mode="json"),
        features=described.features.model_dump(mode="json"),
        classes=list(described.classes),
        seed=described.seed,
        refit=described.refit,
        members=[
            ExportedMember(name=name, speakers=count) for name, count in model.speakers.items()
        ],
        typical_speakers=by_speaker,
        extraction=extraction_hash(described.features),
        contents=list(described.features.load().contents),
        weights=sha256(data),
        size=len(data),
    )
    folder.write(WEIGHTS, data)
    folder.write(MODEL, seal(record.model_dump(mode="json")))


def read_model(folder: Storage, files: Mapping[str, str] | None = None) -> SpeechModel:
    """Read a folder that `write_model` wrote.

    files : the values of feature options that name files. Those of the folder are never opened

    Raises LedgerError, in one line, for any fault; ConfigError if `files` lacks a key or has an
    unknown one; FeatureError if a file of `files` cannot be used; NotAllowedError if the folder
    names code that the user has not allowed.
    """
    given = dict(files or {})
    with _one_line(folder):
        record = ExportedModel.model_validate(_unsealed(_bytes(folder, MODEL, LONGEST)))
        model, features = _sections(record)
    check_given(features, given)
    for key, value in features.files().items():
        if key not in given:
            raise ConfigError(
                f"{folder.root}: features.{key} names a file of another machine, "
                f"{shown(value[:100])}, which is not opened. Name your own: --feature {key}=PATH, "
                f'or load_model(folder, features={{"{key}": "PATH"}})'
            )
    if given:
        features = validate(type(features), features.model_dump() | given, "features")
        check_contents(features, record.contents, folder.root)  # these files are the user's own
    with _one_line(folder):
        description = _description(record, model, features)
        data = _bytes(folder, WEIGHTS, record.size)
        if len(data) != record.size or sha256(data) != record.weights:
            raise LedgerError(f"{WEIGHTS} is not the file that {MODEL} names: its SHA-256 differs")
        loaded = _model(record, description, tensors_of(data)).eval()
        if record.extraction != extraction_hash(description.features):
            logger.warning("%s: features of other versions trained this model", folder.root)
        return loaded


@contextmanager
def _one_line(folder: Storage) -> Iterator[None]:
    """Turn each fault of a folder into one LedgerError of one line."""
    try:
        yield
    except registry.NotAllowedError:
        raise
    except (
        *(LedgerError, ConfigError, FeatureError, ValidationError, SafetensorError),
        *(ValueError, TypeError, KeyError, RuntimeError, OverflowError, RecursionError),
    ) as error:
        raise LedgerError(
            f"{folder.root} has no model that can be used: {_line(error)}. Export it again"
        ) from None


def _bytes(folder: Storage, name: str, most: int) -> bytes:
    """A regular file of at most so many bytes."""
    info = folder.inspect([name])[0]
    if info.type != pafs.FileType.File:
        raise LedgerError(f"{name} is missing, or not a regular file")
    if info.size > most:
        raise LedgerError(f"{name} has {info.size} bytes, more than the {most} that it may have")
    return folder.read(name)


def _unsealed(data: bytes) -> dict[str, Any]:
    """The plain values of a sealed JSON object, in which no key comes twice."""
    try:
        value = json.loads(data, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise LedgerError(f"{MODEL} is nested too deeply") from None
    except ValueError as error:  # also if it is no UTF-8
        raise LedgerError(f"{MODEL} is not JSON: {error}") from None
    if not isinstance(value, dict) or "sha256" not in value:
        raise LedgerError(f"{MODEL} is not a sealed object")
    digest = value.pop("sha256")
    if digest != sha256(canonical_json(value)):
        raise LedgerError(f"{MODEL} has changed: its content does not match its SHA-256")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(value := dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _sections(record: ExportedModel) -> tuple[ModelConfig, FeatureConfig]:
    """The checked sections. No file that they name is opened."""
    model, features = record.model.get("name"), record.features.get("name")
    for key, name in (("model", model), ("features", features)):
        if isinstance(name, str) and registry.PATH.fullmatch(name):
            registry.entry(key, name)  # its error says how to allow it
    if not isinstance(model, str) or not registry.exists("model", model):
        raise LedgerError(f"model.name: this version has no model {shown(str(model))}")
    if not isinstance(features, str) or not registry.exists("features", features):
        raise LedgerError(f"features.name: this version has no set {shown(str(features))}")
    for key, value in record.model.items():
        most = _MOST_LAYERS if key.endswith("layers") or key == "hops" else LARGEST
        if isinstance(value, int) and value > most:
            raise LedgerError(f"model.{shown(key)}: must be at most {most}")
    sections = configuration_class(model, features, "leave_one_session_out").model_fields
    section: Any = sections["model"].annotation
    options = validate(registry.feature_set(features), record.features, "features")
    return validate(section, record.model, "model"), options


def _description(record: ExportedModel, model: ModelConfig, features: FeatureConfig) -> Description:
    if features.load().shape != registry.model(model.name).reads:
        raise LedgerError(f"features.name: {model.name} cannot read {features.name}")
    name, classes = record.name, tuple(record.classes)
    return Description(name, record.trial, model, features, classes, record.seed, record.refit)


def _model(
    record: ExportedModel, description: Description, tensors: Mapping[str, Tensor]
) -> SpeechModel:
    expected: dict[str, Tensor] = {}
    dims = description.features.load().dims
    by_speaker = description.features.group is not None
    if record.typical_speakers != by_speaker:
        raise LedgerError("typical_speakers: it does not fit features.normalize")
    names = [member.name for member in record.members]
    if len(set(names)) < len(names):
        raise LedgerError("members: a name comes twice")
    for number, member in enumerate(record.members):
        with torch.device("meta"):  # shapes without memory: the file decides how much there is
            state = description.network(member.speakers).state_dict()
        expected |= {f"{number}.{key}": value for key, value in state.items()}
        if by_speaker:
            statistics = torch.empty(dims, dtype=torch.float64, device="meta")
            expected |= {f"{number}:mean": statistics, f"{number}:deviation": statistics}
    _check_tensors(tensors, expected)
    members, typical = {}, {}
    for number, member in enumerate(record.members):
        prefix = f"{number}."
        network = description.network(member.speakers)
        network.load_state_dict(
            {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        )
        members[member.name] = Member(network, member.speakers)
        if by_speaker:
            mean, deviation = (tensors[f"{number}:{name}"] for name in ("mean", "deviation"))
            typical[member.name] = Statistics(0, mean.numpy(), deviation.numpy())
    return SpeechModel(description, members, lambda: typical)


def _check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise LedgerError if names, types, shapes or values are not those of the networks."""
    for kind, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has an unknown tensor", tensors.keys() - expected.keys()),
    ):
        if names:
            raise LedgerError(f"{WEIGHTS} {kind} {shown(min(names))}")
    for name, value in tensors.items():
        want = expected[name]
        if value.shape != want.shape or value.dtype != want.dtype:
            raise LedgerError(
                f"{WEIGHTS}: {shown(name)} is {value.dtype} {list(value.shape)}, but the network "
                f"has {want.dtype} {list(want.shape)}"
            )
        if not torch.isfinite(value).all():
            raise LedgerError(f"{WEIGHTS}: {shown(name)} has values that are not finite")
        if name.endswith(":deviation") and bool((value < 0).any()):
            raise LedgerError(f"{WEIGHTS}: {shown(name)} has a negative deviation")


def _line(error: Exception) -> str:
    """An error in one printable line of at most 300 characters."""
    text = str(error)
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        text = f"{'.'.join(map(str, problem['loc']))[:100]}: {problem['msg']}"
    line = " ".join(text.split()) or type(error).__name__
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:300]
