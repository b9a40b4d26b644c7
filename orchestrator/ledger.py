"""What a sweep leaves on storage, and the only code that reads or writes it.

    sweep.yaml                        configuration, versions, data fingerprint, folds
    search/<number>.json              what the search proposed, in order
    trials/<id>/checkpoint-<epoch>/   state of every fold; manifest.json is written last
    trials/<id>/folds.parquet         fold, epoch, split, selected, loss, ua, wa, recall_<class>
    trials/<id>/predictions.parquet   fold, utterance, speaker, truth, prediction, posterior_<class>
    trials/<id>/fold-<name>.safetensors
    trials/<id>/trial.json            written last: a trial without it has not ended

A file is believed only where its SHA-256 is the one that the record written after it names.
"""

import hashlib
import io
import json
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from features.storage import Storage


class LedgerError(RuntimeError):
    """Something on the storage is not what was written there."""


class NoSweepError(LedgerError):
    """A folder that is not a sweep's."""


class Suggestion(BaseModel):
    """The `number`-th configuration that the search proposed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    trial: str
    hyperparameters: dict[str, Any]


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

    id: str
    number: int
    model: str
    status: Literal["complete", "pruned", "failed"]
    reason: str | None = None
    hyperparameters: dict[str, Any]
    seed: int
    score: float | None = None
    curve: list[float] = []
    seconds: float = 0.0
    code: str = ""
    files: dict[str, str] = {}

    @property
    def epochs(self) -> int:
        """Epochs run by the fold that ran longest."""
        return len(self.curve)


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
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise LedgerError(f"not a sealed record: {error}") from None
    if not whole:
        raise LedgerError("a sealed record does not have the SHA-256 that it names")
    return dict(value)


class Ledger:
    """One sweep's folder."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def sweep(self) -> dict[str, Any]:
        """The content of sweep.yaml. Raises NoSweepError where there is none."""
        if not self.storage.exists("sweep.yaml"):
            raise NoSweepError(
                f"{self.storage.root} holds no sweep.yaml: it is not a sweep's folder"
            )
        content = yaml.load(self.storage.read("sweep.yaml"), Loader=yaml.CSafeLoader)
        if not isinstance(content, dict):
            raise LedgerError(f"{self.storage.root}/sweep.yaml is damaged: it holds no mapping")
        return content

    def write_sweep(self, content: dict[str, Any]) -> None:
        """Write sweep.yaml."""
        text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
        self.storage.write("sweep.yaml", text.encode())

    def suggestions(self) -> list[Suggestion]:
        """The proposals so far, numbered from 0; ends before the first that is not whole."""
        found: list[Suggestion] = []
        while self.storage.exists(name := f"search/{len(found):05d}.json"):
            try:
                found.append(Suggestion.model_validate(unseal(self.storage.read(name))))
            except (LedgerError, ValidationError):
                break
        return found

    def write_suggestion(self, suggestion: Suggestion) -> None:
        """Record a proposal, before its trial starts."""
        name = f"search/{suggestion.number:05d}.json"
        self.storage.write(name, seal(suggestion.model_dump()))

    def trial_storage(self, trial: str) -> Storage:
        """The folder of one trial."""
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
            record = TrialRecord.model_validate(unseal(folder.read("trial.json")))
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
            record = TrialRecord.model_validate(unseal(folder.read("trial.json")))
        except (LedgerError, ValidationError) as error:
            return [folder.put_aside("trial.json", str(error).splitlines()[0])]
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

    def put_damaged_suggestion_aside(self) -> None:
        """Rename the proposal that ends `suggestions` by being damaged; it is made again."""
        name = f"search/{len(self.suggestions()):05d}.json"
        if self.storage.exists(name):
            self.storage.put_aside(name, "it is not a whole proposal")

    def trials(self) -> list[TrialRecord]:
        """The ended trials, each once, in the order in which the search proposed them."""
        ids = dict.fromkeys(suggestion.trial for suggestion in self.suggestions())
        records = (self.trial(trial, weights=False) for trial in ids)
        return [record for record in records if record is not None]

    def folds(self, trial: str) -> pa.Table:
        """Scores of every fold, epoch and split of an ended trial."""
        return pq.read_table(pa.BufferReader(self.trial_storage(trial).read("folds.parquet")))

    def inspection(self, record: TrialRecord) -> pa.Table | None:
        """Embeddings and attention of an ended trial's test utterances; None where it has none."""
        if "inspection.parquet" not in record.files:
            return None
        data = self.trial_storage(record.id).read("inspection.parquet")
        return pq.read_table(pa.BufferReader(data))

    def predictions(self, trial: str) -> pa.Table:
        """Every test utterance of an ended trial with its truth, prediction and posteriors."""
        return pq.read_table(pa.BufferReader(self.trial_storage(trial).read("predictions.parquet")))
