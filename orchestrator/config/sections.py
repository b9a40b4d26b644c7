"""The sections of a configuration. docs/configuration.md says what each key means.

Each key declares what it decides, and whether a search may set it:

    trial     the results of a trial: part of the trial's id
    sweep     which trials a sweep has: it may not change under the sweep's name
    nothing   no result (paths, resources, limits): it may change at any time

The class variables `decides` and `searchable` are the section's defaults. A key with another role
has a marker in its annotation. `role` reads both; the trial's id, the sweep's identity, the check
of search spaces and the test of docs/configuration.md use it.

A key that is newer than stored trials has the marker `ADDED`. Its default is the behaviour before
the key existed, so a trial's id leaves out the key at its default.
"""

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from features.sets import FeatureConfig

SWEEP = Field(json_schema_extra={"decides": "sweep"})
NOTHING = Field(json_schema_extra={"decides": "nothing", "searchable": False})
NOT_SEARCHABLE = Field(json_schema_extra={"searchable": False})
ADDED = Field(json_schema_extra={"added": True})


class Role(NamedTuple):
    """The results that a key decides, and whether a search may set it."""

    decides: str
    searchable: bool


class Section(BaseModel):
    """A frozen section. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    decides: ClassVar[str] = "trial"
    searchable: ClassVar[bool] = False

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python's True is 1: `hidden_size: true` would be a network with one unit."""
        kinds = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {kinds, *getattr(kinds, "__args__", ())}:
            raise ValueError("must be a number")
        return value


def _number_as_name(value: Any) -> Any:
    """Classes may be called 0, 1, 2. A file keeps them as written; Python code gives numbers."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Name = Annotated[str, BeforeValidator(_number_as_name)]
"""A label, a class, or another value of a text column of the manifest."""


class CorpusConfig(Section):
    """Which recordings to use, and which of their labels are classes."""

    name: Annotated[str, SWEEP] = "manifest"
    root: Annotated[str, NOTHING]
    only: Annotated[dict[str, Annotated[tuple[Name, ...], Field(min_length=1)]], SWEEP] = {}
    merge: dict[Name, Name] = {}
    classes: tuple[Name, ...] | None = Field(None, min_length=2)
    note: Annotated[str | None, NOTHING] = None

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is not None and len(set(classes)) < len(classes):
            raise ValueError("each class may be named once")
        return classes


class TrainingCorpus(CorpusConfig):
    """A corpus to train on: its classes must be given."""

    classes: tuple[Name, ...] = Field(min_length=2)


class FoldsConfig(Section):
    """Which utterances train, and which test. Each scheme has a class with its own options."""

    scheme: str
    selection: Literal["validation", "held_out"] = "validation"


class LeaveOneSessionOut(FoldsConfig):
    """Each fold tests one session."""

    scheme: Literal["leave_one_session_out"] = "leave_one_session_out"


class LeaveOneSpeakerOut(FoldsConfig):
    """Each fold tests one speaker."""

    scheme: Literal["leave_one_speaker_out"] = "leave_one_speaker_out"


class RandomRepeated(FoldsConfig):
    """Each fold tests a random share of the utterances. The speakers are known from training.

    The defaults are the SSA-CRNN paper's.
    """

    scheme: Literal["random_repeated"] = "random_repeated"
    folds: int = Field(10, ge=2)
    test_share: float = Field(0.2, gt=0, lt=1)
    seed: int = Field(0, ge=0)

    @field_validator("test_share")
    @classmethod
    def _leaves_utterances_to_train(cls, share: float, info: ValidationInfo) -> float:
        if share >= 0.5 and info.data.get("selection") == "validation":
            raise ValueError(
                "must be below 0.5 with selection validation, because the validation part has the "
                "same size"
            )
        return share


class PhraseGroups(FoldsConfig):
    """Each fold tests one group of phrases, or two under `held_out`. The speakers are known."""

    scheme: Literal["phrase_groups"] = "phrase_groups"
    folds: int = Field(10, ge=2)
    seed: int = Field(0, ge=0)


class StratifiedGroupKFold(FoldsConfig):
    """Each fold tests some groups, so that the shares of the classes are similar."""

    scheme: Literal["stratified_group_k_fold"] = "stratified_group_k_fold"
    folds: int = Field(10, ge=2)
    group: Literal["speaker", "session", "phrase", "dialogue"] = "speaker"
    seed: int = Field(0, ge=0)


class CorpusFolds(FoldsConfig):
    """The folds that the corpus itself defines, in its column `fold` or `split`."""

    scheme: Literal["corpus"] = "corpus"


FOLDS: dict[str, type[FoldsConfig]] = {
    str(options.model_fields["scheme"].default): options for options in FoldsConfig.__subclasses__()
}


class ModelConfig(Section):
    """The hyperparameters of a model; each model has a subclass with its own keys."""

    searchable: ClassVar[bool] = True

    name: Annotated[str, NOT_SEARCHABLE]


class TrainingConfig(Section):
    """Settings that every model has. A model that is fitted in one step has only these."""

    searchable: ClassVar[bool] = True

    metric: Annotated[Literal["ua", "wa"], NOT_SEARCHABLE] = "ua"
    seed: Annotated[int, NOT_SEARCHABLE] = Field(0, ge=0, lt=2**63)
    checkpoint_every: Annotated[float, NOTHING] = Field(60.0, ge=0)

    @property
    def last_epoch(self) -> int:
        """The largest possible number of epochs."""
        return 1


class GradientTraining(TrainingConfig):
    """How each fold of a network is trained.

    Defaults are IAAN's if its paper gives them; no paper gives `patience`. Other published values
    are defaults of their models (`ser_models.MODELS`). IAAN's paper counts epochs. Its released
    code checks every 100 steps instead, which is many passes over a small corpus; therefore the
    examples of IAAN set `epoch_steps`, and the default is a pass.
    """

    epochs: int = Field(100, ge=1)
    epoch_steps: int | None = Field(None, ge=1)
    patience: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=1)
    balanced_batches: bool = False
    class_weights: Annotated[Literal["none", "balanced"], ADDED] = "none"
    optimizer: Literal["adam", "nadam"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def last_epoch(self) -> int:
        """The largest possible number of epochs."""
        return self.epochs


class SearchConfig(Section):
    """Which configurations the sweep tries.

    Proposal n uses the results of trials 0 to n - `lag`, so that the same seed gives the same
    search in any order of events. Without a value, the sweep chooses the lag when it starts
    (`orchestrator.sweep.search.default_lag`), and its record keeps it.
    """

    decides: ClassVar[str] = "sweep"

    space: Annotated[str, NOTHING]
    trials: Annotated[int, NOTHING] = Field(50, ge=1)
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    scheduler: Literal["asha", "paired", "none"] = "asha"
    grace_epochs: int = Field(5, ge=1)
    reduction_factor: int = Field(3, ge=2)
    lag: int | None = Field(None, ge=1)


class ClusterConfig(Section):
    """Which resources a trial uses. Defaults are chosen from the resources of the cluster.

    `cache` is a folder of each node, and `cache_gb` the room that features may take there
    (`features.cache`).
    """

    decides: ClassVar[str] = "nothing"

    workers_per_trial: int | None = Field(None, ge=1)
    gpus_per_worker: float | None = Field(None, ge=0)
    concurrent_trials: int | None = Field(None, ge=1)
    cpus: int | None = Field(None, ge=1)
    gpus: int | None = Field(None, ge=0)
    trial_minutes: float | None = Field(None, gt=0)
    max_failures: int = Field(5, ge=1)
    cache: str | None = Field(None, min_length=1)
    cache_gb: float = Field(100.0, gt=0)

    @property
    def can_grow(self) -> bool:
        """Whether more nodes can start on demand."""
        return bool(self.cpus or self.gpus)


Tracker = Literal["tensorboard", "mlflow", "wandb"]
"""A program that shows the trials of sweeps (`orchestrator.tracking`)."""


class Configuration(Section):
    """A whole run with every default filled in. `orchestrator.config.parsing.parse` makes it.

    The keys of `model`, `features` and `training`, and their defaults, depend on the model; those
    of `folds` depend on the scheme. A value that the run would ignore is an error.
    """

    corpus: TrainingCorpus
    features: FeatureConfig
    model: Any
    folds: FoldsConfig
    training: TrainingConfig
    search: Annotated[SearchConfig | None, SWEEP] = None
    cluster: ClusterConfig = ClusterConfig()
    storage: Annotated[str, NOTHING] = "./runs"
    trackers: Annotated[tuple[Tracker, ...], NOTHING] = ("tensorboard",)
    name: Annotated[str, SWEEP] = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

    @model_validator(mode="after")
    def _batches_hold_each_class(self) -> "Configuration":
        training, classes = self.training, len(self.corpus.classes)
        if (
            isinstance(training, GradientTraining)
            and training.balanced_batches
            and training.batch_size % classes
        ):
            raise ValueError(
                f"training.batch_size: must be a multiple of the {classes} classes with "
                f"balanced_batches, not {training.batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _classes_balanced_once(self) -> "Configuration":
        training = self.training
        if (
            isinstance(training, GradientTraining)
            and training.balanced_batches
            and training.class_weights == "balanced"
        ):
            raise ValueError(
                "training.class_weights: 'balanced' with training.balanced_batches true would "
                "correct the sizes of the classes twice. Set balanced_batches to false, or "
                "class_weights to none"
            )
        return self

    def __reduce__(self) -> Any:  # `parse` makes the class at run time, so pickle cannot import it
        from orchestrator.config.parsing import parse

        return parse, (self.resolved(),)

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain values, for records and ids."""
        return self.model_dump(mode="json")

    def with_values(self, values: dict[str, Any]) -> "Configuration":
        """A copy with dotted keys set. Raises ConfigError if a value does not fit."""
        from orchestrator.config.parsing import parse_stored, set_values

        raw = self.resolved()
        set_values(raw, values)
        return parse_stored(raw)

    def decided(self, *decides: str) -> dict[str, Any]:
        """The resolved keys that decide one of `decides` (`trial`, `sweep`, `nothing`)."""
        kept: dict[str, Any] = {}
        for name, value in self.resolved().items():
            section = getattr(self, name)
            if not isinstance(section, BaseModel):
                if role(type(self), name).decides in decides:
                    kept[name] = value
                continue
            keys = {k: v for k, v in value.items() if role(type(section), k).decides in decides}
            if keys:
                kept[name] = keys
        return kept


class Extraction(Section):
    """The sections that the extraction reads: they decide which features a run reads.

    Other sections are not read. Of `model`, only the name is read: a check of its keys would import
    PyTorch, which takes over a second.
    """

    corpus: TrainingCorpus
    features: FeatureConfig
    model: dict[str, Any]
    search: SearchConfig | None = None
    storage: str = "./runs"


def role(section: type[BaseModel], key: str) -> Role:
    """The role of a key of a section. The feature set itself may be searched."""
    if key == "name" and issubclass(section, FeatureConfig):
        return Role("trial", True)
    extra = section.model_fields[key].json_schema_extra
    marks: dict[str, Any] = extra if isinstance(extra, dict) else {}
    return Role(
        str(marks.get("decides", getattr(section, "decides", "trial"))),
        bool(marks.get("searchable", getattr(section, "searchable", False))),
    )


def added_defaults(section: type[BaseModel]) -> dict[str, Any]:
    """The default of each key of a section that is newer than stored trials (`ADDED`)."""
    return {
        key: field.get_default()
        for key, field in section.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("added")
    }
