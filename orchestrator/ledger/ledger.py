"""One sweep's folder on the storage.

    sweep.json                        the sweep's record: configuration, data, code, folds
    sweep.yaml                        the same for people; never read
    progress.json                     the running trials; the driver deletes it at the end
    search/<number>.json              the proposals of the search, in order
    trials/<id>/checkpoint-<epoch>/   state of every fold; manifest.json is written last
    trials/<id>/folds.parquet         fold, epoch, split, selected, loss, ua, wa, recall_<class>
    trials/<id>/predictions.parquet   fold, utterance, speaker, truth, prediction, posterior_<class>
    trials/<id>/inspection.parquet    embeddings and attention, if the model has them
    trials/<id>/fold-<name>.safetensors
    trials/<id>/trial.json            written last: a trial without this file is not finished

Each record contains its own SHA-256. A trial's record also contains the SHA-256 of the trial's
other files. No file can run code: records are JSON, tables Parquet, weights safetensors.
"""

import re
from collections.abc import Sequence

import pyarrow as pa
import yaml
from pydantic import ValidationError

from features.parquet import ParquetError, read_table
from features.storage import Storage
from orchestrator.errors import LedgerError, NoSweepError
from orchestrator.ledger.records import (
    FOLDS,
    FORMAT,
    INSPECTION,
    PREDICTIONS,
    TRIAL_ID,
    Proposal,
    SweepProgress,
    SweepRecord,
    TrialRecord,
)
from orchestrator.ledger.seals import seal, sha256, unseal

PROGRESS = "progress.json"
_COPY = "# A copy of sweep.json for people. The program never reads this file.\n"


class Ledger:
    """Reads and writes one sweep's folder."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def has_sweep(self) -> bool:
        """Whether a sweep has started in this folder."""
        return self.storage.exists("sweep.json")

    def sweep(self) -> SweepRecord:
        """The sweep's record. Raises NoSweepError, or LedgerError for damage."""
        root = self.storage.root
        try:
            content = unseal(self.storage.read("sweep.json"))
            if content.get("format") == FORMAT:
                return SweepRecord.model_validate(content)
        except FileNotFoundError:
            raise NoSweepError(
                f"{root} has no sweep.json, so it is not a sweep's folder. Give the folder "
                f"<storage>/<name> of a sweep of this version"
            ) from None
        except (LedgerError, ValidationError) as error:
            raise LedgerError(
                f"{root}/sweep.json is damaged: {_line(error)}. Restore it from a copy, or start "
                f"a new sweep under another name"
            ) from None
        raise LedgerError(
            f"{root}/sweep.json has format {content.get('format')}, and this program reads format "
            f"{FORMAT}. Use the version of the program that wrote it"
        )

    def write_sweep(self, record: SweepRecord) -> None:
        """Write the sweep's record, and its copy for people."""
        content = record.model_dump(mode="json")
        text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
        self.storage.write("sweep.yaml", (_COPY + text).encode())
        self.storage.write("sweep.json", seal(content))

    def progress(self) -> SweepProgress | None:
        """The driver's last words on the running trials; None if they are missing or damaged."""
        try:
            return SweepProgress.model_validate(unseal(self.storage.read(PROGRESS)))
        except (FileNotFoundError, LedgerError, ValidationError):
            return None

    def write_progress(self, progress: SweepProgress) -> None:
        """Replace the record of the running trials."""
        self.storage.write(PROGRESS, seal(progress.model_dump()))

    def delete_progress(self) -> None:
        """Delete the record of the running trials, because no trial runs."""
        self.storage.delete(PROGRESS)

    def proposals(self, known: Sequence[Proposal] = ()) -> list[Proposal]:
        """The proposals so far, numbered from 0, up to the first that is missing or damaged.

        known : the first proposals, if they have been read before
        """
        proposals = list(known)
        while (proposal := self._proposal(len(proposals))) is not None:
            proposals.append(proposal)
        return proposals

    def _proposal(self, number: int) -> Proposal | None:
        """A proposal, or None if its file is missing, damaged, or of another number."""
        try:
            data = self.storage.read(f"search/{number:05d}.json")
            proposal = Proposal.model_validate(unseal(data))
        except (FileNotFoundError, LedgerError, ValidationError):
            return None
        return proposal if proposal.number == number else None

    def write_proposal(self, proposal: Proposal) -> None:
        """Record a proposal before its trial starts."""
        self.storage.write(f"search/{proposal.number:05d}.json", seal(proposal.model_dump()))

    def rename_damaged_proposals(self) -> None:
        """Rename damaged proposals; the search makes them again."""
        for name in self.storage.list("search"):
            number = re.fullmatch(r"search/(\d{5})\.json", name)
            if number and self._proposal(int(number[1])) is None:
                self.storage.rename_damaged(name, "it is not the complete proposal of its number")

    def trial_storage(self, trial: str) -> Storage:
        """The folder of one trial. Raises LedgerError if `trial` is not an id."""
        if not re.fullmatch(TRIAL_ID, trial):
            raise LedgerError(f"{trial!r} is not a trial's id; an id has ten hex digits")
        return self.storage.child(f"trials/{trial}")

    def write_trial(self, record: TrialRecord) -> None:
        """Commit a trial: its other files are written already, and the record names them."""
        self.trial_storage(record.id).write("trial.json", seal(record.model_dump()))

    def record(self, trial: str) -> TrialRecord | None:
        """The record of a finished trial; None if it is missing or damaged. Reads one file."""
        folder = self.trial_storage(trial)
        try:
            return _record(trial, folder.read("trial.json"))
        except (FileNotFoundError, LedgerError, ValidationError):
            return None

    def is_whole(self, record: TrialRecord, weights: bool = True) -> bool:
        """Whether all files of a trial have the SHA-256 that its record names.

        weights : also verify the weights. They are the largest files, and reports do not read them

        Raises StorageError if the storage fails: the files may be intact.
        """
        folder = self.trial_storage(record.id)
        try:
            return all(
                sha256(folder.read(name)) == digest
                for name, digest in record.files.items()
                if weights or not name.endswith(".safetensors")
            )
        except FileNotFoundError:
            return False

    def trial(self, trial: str, weights: bool = True) -> TrialRecord | None:
        """The record of a finished trial whose files are whole, or None. See `is_whole`."""
        record = self.record(trial)
        return record if record is not None and self.is_whole(record, weights) else None

    def records(self) -> list[TrialRecord]:
        """The records of finished trials in the order of their proposals; no file is verified."""
        ids = dict.fromkeys(proposal.trial for proposal in self.proposals())
        return [record for record in map(self.record, ids) if record is not None]

    def trials(self) -> list[TrialRecord]:
        """As `records`, but only trials whose tables are whole."""
        return [record for record in self.records() if self.is_whole(record, weights=False)]

    def rename_damage(self, trial: str) -> list[str]:
        """Rename the damaged files of a finished trial, so that the sweep trains it again.

        Returns the new names; an empty list if the trial is whole or not finished.
        """
        folder = self.trial_storage(trial)
        if not folder.exists("trial.json"):
            return []
        try:
            record = _record(trial, folder.read("trial.json"))
        except (LedgerError, ValidationError) as error:
            return [folder.rename_damaged("trial.json", _line(error))]
        renamed, missing = [], False
        for name, digest in record.files.items():
            try:
                if sha256(folder.read(name)) != digest:
                    renamed.append(folder.rename_damaged(name, "its SHA-256 has changed"))
            except FileNotFoundError:
                missing = True
        if renamed or missing:
            renamed.append(folder.rename_damaged("trial.json", "files that it names are lost"))
        return renamed

    def folds(self, trial: str) -> pa.Table:
        """Scores of every fold, epoch and part of a finished trial.

        Raises LedgerError if the file lacks a required column, as `predictions` does.
        """
        return self._table(trial, "folds.parquet", FOLDS)

    def predictions(self, trial: str) -> pa.Table:
        """Every test utterance of a finished trial with its truth, prediction and posteriors."""
        return self._table(trial, "predictions.parquet", PREDICTIONS)

    def inspection(self, record: TrialRecord) -> pa.Table | None:
        """Embeddings and attention of a trial's test utterances; None without attention."""
        if "inspection.parquet" not in record.files:
            return None
        return self._table(record.id, "inspection.parquet", INSPECTION)

    def _table(self, trial: str, name: str, schema: pa.Schema) -> pa.Table:
        folder = self.trial_storage(trial)
        try:
            table = read_table(folder.read(name), schema)
            if not len(table) or any(table[column].null_count for column in schema.names):
                raise ParquetError("it has no rows, or rows with missing values")
            return table
        except (ParquetError, FileNotFoundError) as error:
            raise unusable(folder, name, error) from None


def unusable(folder: Storage, name: str, error: Exception) -> LedgerError:
    """The error for a finished trial's file that cannot be used."""
    return LedgerError(
        f"{folder.path(name)} cannot be used: {_line(error)}. Rename "
        f"{folder.path('trial.json')}; then the sweep trains the trial again"
    )


def _record(trial: str, data: bytes) -> TrialRecord:
    """A trial's record. Raises LedgerError or ValidationError if it is damaged."""
    record = TrialRecord.model_validate(unseal(data))
    if record.id != trial:
        raise LedgerError(f"it is the record of trial {record.id}")
    return record


def _line(error: Exception) -> str:
    """An error in one line: for pydantic, the first problem with its place."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        return f"{place[:200]}: {problem['msg']}"
    return (str(error).splitlines() or [type(error).__name__])[0]
