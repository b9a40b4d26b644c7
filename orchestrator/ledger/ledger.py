"""What a sweep leaves on storage, and the only code that reads or writes it.

    sweep.yaml                        configuration, versions, data fingerprint, folds
    search/<number>.json              what the search proposed, in order
    trials/<id>/checkpoint-<epoch>/   state of every fold; manifest.json is written last
    trials/<id>/folds.parquet         fold, epoch, split, selected, loss, ua, wa, recall_<class>
    trials/<id>/predictions.parquet   fold, utterance, speaker, truth, prediction, posterior_<class>
    trials/<id>/fold-<name>.safetensors
    trials/<id>/trial.json            written last: a trial without it has not ended

A file is believed only where its SHA-256 is the one that the record written after it names; the
last line of sweep.yaml has that of the lines before.

Whoever can write to a storage can compute checksums too. So what is read is checked to be of the
form that is written, names in it are only ever names inside a trial's folder, and nothing that is
read can run code: JSON, plain YAML, Parquet, safetensors.
"""

import hashlib
import io
import json
import re
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from features.parquet import ParquetError, read_table
from features.storage import Storage
from orchestrator.config.plain_yaml import YamlError, load_plain

TRIAL_ID = r"[0-9a-f]{10}"
TrialId = Annotated[str, StringConstraints(pattern=f"^{TRIAL_ID}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ()+,;=@%._~-]*$", max_length=255)
]
"""A name that `features.storage.safe_name` makes, with a prefix: one component, never hidden."""

_MARK = b"# The last line is the SHA-256 of those before it.\n"
_DIGEST = re.compile(rb"\n# sha256: ([0-9a-f]{64})\n\Z")


class LedgerError(RuntimeError):
    """Something on the storage is not what was written there."""


class NoSweepError(LedgerError):
    """A folder that is not a sweep's."""


class Suggestion(BaseModel):
    """The `number`-th configuration that the search proposed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0, lt=2**31)
    trial: TrialId
    hyperparameters: dict[str, Any]


class Taken(BaseModel):
    """A trial that a fork takes over from another sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial: TrialId
    point: dict[str, Any]


class TrialRecord(BaseModel):
    """An ended trial: one configuration, cross-validated.

    status : `complete`, `pruned` (stopped early by the search) or `failed`
    reason : why, for `pruned` and `failed`
    hyperparameters : what the search chose, by dotted configuration key
    score : mean over folds of the selected epoch's UA on the part that selects; None if failed
    curve : mean over folds of the best score so far, after each epoch; `score` is its last
    seconds : training time, summed over the runs that it took
    files : SHA-256 of each result file, by name
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: TrialId
    number: int = Field(ge=0, lt=2**31)
    model: str
    status: Literal["complete", "pruned", "failed"]
    reason: str | None = None
    hyperparameters: dict[str, Any]
    seed: int = Field(ge=0, lt=2**63)
    score: float | None = None
    curve: list[float] = []
    seconds: float = 0.0
    code: str = ""
    files: dict[FileName, Digest] = {}

    @model_validator(mode="after")
    def _failed_without_a_score(self) -> "TrialRecord":
        if self.status == "failed" and self.score is not None:
            raise ValueError("a failed trial has no score")
        return self

    @property
    def epochs(self) -> int:
        """Epochs run by the fold that ran longest."""
        return len(self.curve)


FOLDS = pa.schema(
    [
        ("fold", pa.string()),
        ("epoch", pa.int64()),
        ("split", pa.string()),
        ("selected", pa.bool_()),
        ("loss", pa.float64()),
        ("ua", pa.float64()),
        ("wa", pa.float64()),
    ]
)
PREDICTIONS = pa.schema(
    [(name, pa.string()) for name in ("fold", "utterance", "speaker", "truth", "prediction")]
)
INSPECTION = pa.schema([(name, pa.string()) for name in ("fold", "utterance", "speaker", "truth")])
"""Columns that the tables of a trial have, none of them with a null. They have others too."""


def sha256(data: bytes) -> str:
    """Hex digest of `data`."""
    return hashlib.sha256(data).hexdigest()


def parquet_bytes(table: pa.Table) -> bytes:
    """`table` as a Parquet file in memory; the same rows give the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: what ids and checksums are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def seal(value: dict[str, Any]) -> bytes:
    """Canonical JSON of `value` with its own SHA-256 in it."""
    return canonical_json({**value, "sha256": sha256(canonical_json(value))})


def unseal(data: bytes) -> dict[str, Any]:
    """What was sealed. Raises LedgerError where a byte of it has changed."""
    try:
        value = json.loads(data)
        digest = value.pop("sha256")
        whole = digest == sha256(canonical_json(value))
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise LedgerError(f"not a sealed record: {error}") from None
    if not whole:
        raise LedgerError("a sealed record does not have the SHA-256 that it names")
    return dict(value)


def _sealed_yaml(content: dict[str, Any]) -> bytes:
    text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    data = _MARK + text.encode()
    return data + f"# sha256: {sha256(data)}\n".encode()


def _unseal_yaml(data: bytes) -> Any:
    """What was sealed; of an earlier version, which sealed none, what is there.

    Raises LedgerError where a byte of it has changed, and YamlError.
    """
    digest = _DIGEST.search(data)
    # What has neither line is older. Each tells of damage to the other.
    if digest is None and (data.startswith(_MARK) or b"# sha256" in data[-80:]):
        raise LedgerError("its last line, which has its SHA-256, is damaged or gone")
    if digest is not None and sha256(data[: digest.start() + 1]) != digest[1].decode():
        raise LedgerError("it has not the SHA-256 that its last line names")
    return load_plain(data)


class _Content(dict[str, Any]):
    """A mapping from a sweep.yaml, which says what it lacks."""

    def __missing__(self, key: str) -> Any:
        raise LedgerError(f"sweep.yaml is damaged: it has no {key}; {_RESTORE}")


_RESTORE = (
    "restore it from a copy, or give the sweep another name to start anew. If it was edited on "
    "purpose, delete its first and its last line"
)


class SweepFile(BaseModel):
    """The keys of a sweep.yaml, of what types they are where they are there."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str = ""
    created: str | None = None
    configuration: dict[str, Any] = {}
    classes: list[str | int | float | bool] = []
    corpus: dict[str, Any] = {}
    folds: list[dict[str, Any]] | None = []
    audit: dict[str, Any] = {}
    fingerprint: str = ""
    lag: int = Field(1, ge=1)
    replicas: int = Field(1, ge=1)
    space: dict[str, Any] = {}
    versions: dict[str, str] = {}
    code: dict[str, str] = {}
    commit: str | None = None
    notes: list[str] | str | None = []
    taken: list[Taken] = []
    forked_from: str = ""


class Ledger:
    """One sweep's folder."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def sweep(self) -> dict[str, Any]:
        """The content of sweep.yaml; a key that it lacks is a LedgerError when it is asked for.

        Raises NoSweepError where there is none, LedgerError where it is damaged.
        """
        if not self.storage.exists("sweep.yaml"):
            raise NoSweepError(
                f"{self.storage.root} holds no sweep.yaml: it is not a sweep's folder"
            )
        try:
            content = _unseal_yaml(self.storage.read("sweep.yaml"))
            if not isinstance(content, dict):
                raise LedgerError("it holds no mapping")
            SweepFile.model_validate(content)
        except (LedgerError, YamlError, ValidationError) as error:
            raise LedgerError(
                f"{self.storage.root}/sweep.yaml is damaged: {_line(error)}; {_RESTORE}"
            ) from None
        return _Content(content)

    def write_sweep(self, content: dict[str, Any]) -> None:
        """Write sweep.yaml."""
        self.storage.write("sweep.yaml", _sealed_yaml(dict(content)))

    def suggestions(self) -> list[Suggestion]:
        """The proposals so far, numbered from 0; ends before the first that is not whole."""
        found: list[Suggestion] = []
        while (suggestion := self._suggestion(len(found))) is not None:
            found.append(suggestion)
        return found

    def _suggestion(self, number: int) -> Suggestion | None:
        """A proposal, or None where there is none, or it is damaged or another one's file."""
        try:
            data = self.storage.read(f"search/{number:05d}.json")
            suggestion = Suggestion.model_validate(unseal(data))
        except (FileNotFoundError, LedgerError, ValidationError):
            return None
        return suggestion if suggestion.number == number else None

    def write_suggestion(self, suggestion: Suggestion) -> None:
        """Record a proposal, before its trial starts."""
        name = f"search/{suggestion.number:05d}.json"
        self.storage.write(name, seal(suggestion.model_dump()))

    def trial_storage(self, trial: str) -> Storage:
        """The folder of one trial. Raises LedgerError for what is no trial's id."""
        if not re.fullmatch(TRIAL_ID, trial):
            raise LedgerError(f"{trial!r} is not a trial's id, which is ten hex digits")
        return self.storage.child(f"trials/{trial}")

    def write_trial(self, record: TrialRecord) -> None:
        """Commit a trial: its other files are written, and the record names them."""
        self.trial_storage(record.id).write("trial.json", seal(record.model_dump()))

    def trial(self, trial: str, weights: bool = True) -> TrialRecord | None:
        """The record of an ended trial, or None where it has not ended or its files are damaged.

        weights : also check the weights, which reports do not read and are most of the bytes
        """
        folder = self.trial_storage(trial)
        if not folder.exists("trial.json"):
            return None
        try:
            record = _record(trial, folder.read("trial.json"))
            whole = all(
                sha256(folder.read(name)) == digest
                for name, digest in record.files.items()
                if weights or not name.endswith(".safetensors")
            )
        except (LedgerError, ValidationError, FileNotFoundError):
            return None  # other errors are the storage's, which may have it all: they are raised
        return record if whole else None

    def put_damage_aside(self, trial: str) -> list[str]:
        """Rename what cannot be believed of a trial that had ended, so that it is made again.

        Returns the new names; none where the trial is whole, or has not ended.
        """
        folder = self.trial_storage(trial)
        if not folder.exists("trial.json"):
            return []
        try:
            record = _record(trial, folder.read("trial.json"))
        except (LedgerError, ValidationError) as error:
            return [folder.put_aside("trial.json", _line(error))]
        aside, missing = [], False
        for name, digest in record.files.items():
            try:
                if sha256(folder.read(name)) != digest:
                    aside.append(folder.put_aside(name, "it has not the SHA-256 of its record"))
            except FileNotFoundError:
                missing = True
        if aside or missing:
            aside.append(folder.put_aside("trial.json", "files that it names are gone"))
        return aside

    def put_damaged_suggestions_aside(self) -> None:
        """Rename the proposals that are not whole; they are made again."""
        for name in self.storage.list("search"):
            number = re.fullmatch(r"search/(\d{5})\.json", name)
            if number and self._suggestion(int(number[1])) is None:
                self.storage.put_aside(name, "it is not the whole proposal of its number")

    def trials(self) -> list[TrialRecord]:
        """The ended trials, each once, in the order in which the search proposed them."""
        ids = dict.fromkeys(suggestion.trial for suggestion in self.suggestions())
        records = (self.trial(trial, weights=False) for trial in ids)
        return [record for record in records if record is not None]

    def folds(self, trial: str) -> pa.Table:
        """Scores of every fold, epoch and split of an ended trial.

        As the other tables, raises LedgerError where it is not of the form that is written.
        """
        return self._table(trial, "folds.parquet", FOLDS)

    def inspection(self, record: TrialRecord) -> pa.Table | None:
        """Embeddings and attention of an ended trial's test utterances; None where it has none."""
        if "inspection.parquet" not in record.files:
            return None
        return self._table(record.id, "inspection.parquet", INSPECTION)

    def predictions(self, trial: str) -> pa.Table:
        """Every test utterance of an ended trial with its truth, prediction and posteriors."""
        return self._table(trial, "predictions.parquet", PREDICTIONS)

    def _table(self, trial: str, name: str, schema: pa.Schema) -> pa.Table:
        folder = self.trial_storage(trial)
        try:
            table = read_table(folder.read(name), schema)
            if not len(table) or any(table[column].null_count for column in schema.names):
                raise ParquetError("it has no rows, or rows without some of their values")
            _check_others(name, table.schema)
            return table
        except (ParquetError, FileNotFoundError) as error:
            raise unfit(folder, name, error) from None


def _check_others(name: str, schema: pa.Schema) -> None:
    """Raise ParquetError for columns beside the fixed ones that are not what theirs are."""
    for field in schema:
        if name == "folds.parquet" and field.name not in FOLDS.names:  # recalls
            right = field.type == pa.float64()
        elif field.name in ("own_previous", "other_previous"):
            right = field.type in (pa.string(), pa.null())  # no utterance may have one
        else:
            continue
        if not right:
            raise ParquetError(f"column {field.name} is {field.type}")


def unfit(folder: Storage, name: str, error: Exception) -> LedgerError:
    """What to say of an ended trial's file that is whole and makes no sense."""
    return LedgerError(
        f"{folder.path(name)} is not what a trial leaves: {_line(error)}; rename "
        f"{folder.path('trial.json')}, and the sweep trains the trial anew"
    )


def _record(trial: str, data: bytes) -> TrialRecord:
    """A trial's record. Raises LedgerError, or ValidationError, where it is not one of it."""
    record = TrialRecord.model_validate(unseal(data))
    if record.id != trial:
        raise LedgerError(f"it is the record of trial {record.id}")
    return record


def _line(error: Exception) -> str:
    """An error in one line: of pydantic's, the first problem with its place."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        return f"{place[:200]}: {problem['msg']}"
    return (str(error).splitlines() or [type(error).__name__])[0]
