"""The records of a sweep: frozen, typed, and without unknown fields."""

from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMAT: Literal[2] = 2
"""Raised if a sweep's files change their form, so that an older program refuses them."""

TRIAL_ID = r"[0-9a-f]{10}"
TrialId = Annotated[str, StringConstraints(pattern=f"^{TRIAL_ID}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ()+,;=@%._~-]*$", max_length=255)
]
"""A name that `features.storage.safe_name` makes, with a prefix: one component, never hidden."""

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
"""Required columns of a trial's tables, all without nulls. Each table has more columns."""


class Record(BaseModel):
    """Base of all records."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Proposal(Record):
    """The `number`-th configuration that the search proposed."""

    number: int = Field(ge=0, lt=2**31)
    trial: TrialId
    hyperparameters: dict[str, Any]


class Taken(Record):
    """A trial that a fork copied from another sweep."""

    trial: TrialId
    point: dict[str, Any]


class TrialRecord(Record):
    """A finished trial: one configuration, cross-validated.

    status : `complete`, `pruned` (stopped early by the search) or `failed`
    reason : why the trial was pruned or failed
    hyperparameters : the search's choice, by dotted configuration key
    score : mean over folds of the selected epoch's UA (or WA) on the selection part; None if failed
    curve : mean over folds of the best score so far, after each epoch; `score` is the last element
    seconds : training time, summed over all runs of the trial
    code : digest of the code that trained it (`orchestrator.sweep.identity`)
    files : SHA-256 of each result file, by name
    """

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
        """Number of epochs of the fold that ran longest."""
        return len(self.curve)


class RunningTrial(Record):
    """A trial in training: the epochs that it has trained, and its score so far (None before the
    first epoch).
    """

    trial: TrialId
    epoch: int = Field(ge=0)
    score: float | None = None


class SweepProgress(Record):
    """What the driver knows of a running sweep. No result depends on this record.

    beat : number of this record since the driver started, so that readers see that it lives
    concurrent : number of trials that can run at the same time
    gpus : GPUs of a trial, of all its workers together
    """

    beat: int = Field(ge=0)
    concurrent: int = Field(ge=1)
    gpus: float = Field(ge=0)
    running: list[RunningTrial]


class PartCounts(Record):
    """One part of a fold.

    classes, speakers : utterances of each class, and of each speaker that occurs
    lacking : speaker -> the classes of which this part has no utterance of the speaker
    """

    utterances: int
    classes: dict[str, int]
    speakers: dict[str, int]
    lacking: dict[str, list[str]]


class FoldAudit(Record):
    """One fold. `parts` are train, validation and test.

    shared : test utterances whose speaker, session, dialogue or phrase also occurs in training
    context : part -> source part -> number of context turns that its utterances take from there
    label_baselines : known unit -> UA of guesses from the training labels alone
        (`orchestrator.data.baselines`); empty in a record of an older version
    """

    name: str
    parts: dict[str, PartCounts]
    shared: dict[str, int]
    context: dict[str, dict[str, int]]
    label_baselines: dict[str, float] = {}


class SpeakerCoverage(Record):
    """How well the speakers' recordings can give each speaker a mean and a deviation.

    speakers, labelled_speakers : number of all speakers, and of those with a labelled utterance
    one_class : number of speakers whose labelled utterances have a single class
    one_class_share : share of the labelled utterances that are theirs
    one_utterance : number of speakers with a single utterance
    short : number of speakers with fewer than ten utterances or less than 30 s
    """

    speakers: int
    labelled_speakers: int
    one_class: int
    one_class_share: float
    one_utterance: int
    short: int


class Audit(Record):
    """Counts of folds that keep the promise of their scheme, and notes for readers of the scores.

    unit : the column whose values the scheme keeps in one part, if there is one
    tested : number of folds -> number of labelled utterances that are tested in so many folds
    context : as in `FoldAudit`, summed over folds
    crossing : speaker -> sessions, for speakers who occur in several sessions
    coverage : None if no feature is normalised by speaker
    notes : whole sentences
    """

    scheme: str
    selection: str
    unit: str | None
    labelled: int
    unlabelled: int
    tested: dict[str, int]
    folds: list[FoldAudit]
    context: dict[str, dict[str, int]]
    crossing: dict[str, list[str]]
    coverage: SpeakerCoverage | None = None
    notes: list[str]


class ContextCounts(Record):
    """How the classes of labelled utterances agree with those of their two context turns: shares,
    and the numbers of utterances without such a turn in the window.
    """

    both_same: float
    one_same: float
    none_same: float
    no_previous_own: int
    no_previous_other: int


class ProblemRecord(Record):
    """Something about a corpus that its user should know, with the remedy."""

    file: str
    reason: str


class CorpusSummary(Record):
    """Counts of a corpus. `classes` and `context` count the utterances of the chosen classes alone.

    duration_s : seconds of all utterances; None if recordings would have to be fetched
    sample_rates, channels, formats : recordings of each; empty if their headers were not read
    speakers, sessions : utterances of each
    """

    corpus: str
    utterances: int
    labelled: int
    duration_s: float | None
    sample_rates: dict[str, int] = {}
    channels: dict[str, int] = {}
    formats: dict[str, int] = {}
    classes: dict[str, int]
    speakers: dict[str, int]
    sessions: dict[str, int]
    dialogues: int
    context: ContextCounts
    problems: list[ProblemRecord]


class FoldSizes(Record):
    """Number of utterances in each part of a fold."""

    name: str
    train: int
    validation: int
    test: int


class FeatureFiles(Record):
    """The files that a section `features` names.

    files : option -> path, hub id or name
    contents : the digests of the files when the sweep started
    """

    files: dict[str, str]
    contents: list[str]


class SweepRecord(Record):
    """A sweep: its search, its data and its code.

    configuration : the resolved configuration, as plain values
    fingerprint : SHA-1 of features, classes and context
    lag : proposal n uses the results of trials 0 to n - lag
    replicas : workers that train one fold together
    code : role -> digest of the code that decides results (`orchestrator.sweep.identity`)
    notes : caveats that every report repeats
    feature_files : of all feature sets of the trials; empty if their options name no files
    taken, forked_from : trials that a fork copied, and the sweep that they come from
    """

    format: Literal[2] = FORMAT
    name: str
    created: str
    configuration: dict[str, Any]
    classes: list[str] = Field(min_length=2)
    corpus: CorpusSummary
    folds: list[FoldSizes]
    audit: Audit
    fingerprint: str
    lag: int = Field(ge=1)
    replicas: int = Field(ge=1)
    space: dict[str, Any]
    versions: dict[str, str]
    code: dict[str, str]
    commit: str | None
    notes: list[str]
    feature_files: list[FeatureFiles] = []
    taken: list[Taken] | None = None
    forked_from: str | None = None

    @model_validator(mode="after")
    def _has_all_sections(self) -> "SweepRecord":
        for name in ("corpus", "features", "model", "folds", "training", "search"):
            if not isinstance(self.configuration.get(name), dict):
                raise ValueError(f"its configuration has no section {name}")
        return self

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.configuration["model"]["name"])

    @property
    def feature_set(self) -> dict[str, Any]:
        """The section `features`."""
        return dict(self.configuration["features"])

    def features_of(self, hyperparameters: dict[str, Any]) -> dict[str, Any]:
        """The section `features` of a trial. Of another set than the sweep's, only searched keys.

        hyperparameters : of the trial
        """
        searched = {
            key.removeprefix("features."): value
            for key, value in hyperparameters.items()
            if key.startswith("features.")
        }
        own = searched.get("name", self.feature_set["name"]) == self.feature_set["name"]
        return (self.feature_set if own else {}) | searched

    @property
    def selection(self) -> str:
        """`validation` or `held_out`."""
        return str(self.configuration["folds"]["selection"])

    @property
    def optimistic(self) -> bool:
        """Whether the epoch was selected on the part that is reported."""
        return self.selection == "held_out"

    @property
    def metric(self) -> str:
        """`ua` or `wa`: the score that selects epochs and trials."""
        return str(self.configuration["training"]["metric"])

    @property
    def epochs(self) -> int | None:
        """Largest number of epochs; None for a model that is fitted in one step."""
        return self.configuration["training"].get("epochs")

    @property
    def trials(self) -> int:
        """Number of trials that the sweep searches."""
        return int(self.configuration["search"]["trials"])
