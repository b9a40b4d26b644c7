"""The configuration of a run: one YAML file, checked whole before anything is computed."""

import copy
import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from features.config import FEATURE_CONFIGS, FeatureConfig
from orchestrator.config.plain_yaml import YamlError, load_plain
from ser_models import MODELS


class ConfigError(ValueError):
    """A configuration that cannot be run. The message names the key and what would be right."""


class Section(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python's True is 1: `hidden_size: true` would be a network of one unit."""
        kinds = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {kinds, *getattr(kinds, "__args__", ())}:
            raise ValueError("must be a number")
        return value


class CorpusConfig(Section):
    """Which recordings, and which of their labels are classes.

    name : a reader in `features.corpora`; `manifest` reads a CSV or Parquet file of one's own
    root : the corpus's folder, or the manifest file
    only : column of the manifest -> values: rows with others do not exist for the run, not even
        as context (`style: [improvised]`)
    merge : label -> label, before the classes are chosen (`exc: hap`)
    classes : the emotions to recognise; utterances with other labels, or none, serve as context
    note : what a reader must know of the data; it stands in every report
    """

    name: str = "manifest"
    root: str
    only: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    merge: dict[str, str] = {}
    classes: tuple[str, ...] = Field(min_length=2)
    note: str | None = None

    @field_validator("classes")
    @classmethod
    def _once(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("each class may be named once")
        return classes


SCHEME_OPTIONS: dict[str, dict[str, Any]] = {
    "leave_one_session_out": {},
    "leave_one_speaker_out": {},
    "random_repeated": {"folds": 10, "test_share": 0.2, "seed": 0},
    "phrase_groups": {"folds": 10, "seed": 0},
    "stratified_group_k_fold": {"folds": 10, "group": "speaker", "seed": 0},
    "corpus": {},
}
"""What each scheme of `orchestrator.folds` can be told, with its defaults."""


class FoldsConfig(Section):
    """Who trains and who tests.

    scheme : a scheme in `orchestrator.folds`
    selection : `validation` chooses the epoch on a part cut from the training groups and scores
        the test part once; `held_out` chooses it on the part that is reported, as both papers
        do, and is marked optimistic wherever it is shown

    Only with the schemes that have them; an option that the scheme does not have is an error:

    folds : how many; of `random_repeated`, how many times (default 10, the SSA-CRNN paper's)
    test_share : of the labelled utterances (default 0.2, the paper's); the validation part, where
        there is one, is as large
    group : what `stratified_group_k_fold` keeps whole (default `speaker`)
    seed : of the draw, apart from the training's: the same folds for every training (default 0)
    """

    scheme: str = "leave_one_session_out"
    selection: Literal["validation", "held_out"] = "validation"
    folds: int | None = Field(None, ge=2, validate_default=True)
    test_share: float | None = Field(None, gt=0, lt=1, validate_default=True)
    group: Literal["speaker", "session", "phrase", "dialogue"] | None = Field(
        None, validate_default=True
    )
    seed: int | None = Field(None, ge=0, validate_default=True)

    @field_validator("folds", "test_share", "group", "seed", mode="before")
    @classmethod
    def _of_the_scheme(cls, value: Any, info: ValidationInfo) -> Any:
        """The scheme's default where nothing is given; nothing where it has no such option."""
        name, scheme = str(info.field_name), info.data.get("scheme")
        options = SCHEME_OPTIONS.get(str(scheme))
        if options is None or value is None:  # a scheme that nobody knows is named by make_folds
            return (options or {}).get(name)
        if name not in options:
            known = ", ".join(options) or "no options"
            raise ValueError(f"must be left out with {scheme}, which has {known}")
        return value

    @field_validator("test_share")
    @classmethod
    def _leaves_some_to_train(cls, share: float | None, info: ValidationInfo) -> float | None:
        if share is not None and share >= 0.5 and info.data.get("selection") == "validation":
            raise ValueError("must be below 0.5 with selection validation, which takes it twice")
        return share

    @model_serializer(mode="wrap")
    def _without_what_the_scheme_has_not(self, plain: SerializerFunctionWrapHandler) -> Any:
        return {key: value for key, value in plain(self).items() if value is not None}


class TrainingConfig(Section):
    """What the training of any model has. By itself, of a model that is fitted in one step.

    metric : what chooses the epoch, and what the search maximises
    seed : of everything random
    checkpoint_every : seconds between checkpoints, at least
    """

    metric: Literal["ua", "wa"] = "ua"
    seed: int = Field(0, ge=0, lt=2**63)
    checkpoint_every: float = Field(60.0, ge=0)

    @property
    def last_epoch(self) -> int:
        """How many epochs there are at most."""
        return 1


class GradientTraining(TrainingConfig):
    """How each fold of a network is trained.

    Defaults are IAAN's where its paper gives them; where another model's paper gives others, they
    are that model's defaults (`ser_models.MODELS`).

    epochs : at most so many
    epoch_steps : training steps that count as an epoch, after which the selection part is scored;
        None is one pass over the training part, ours for all models. The IAAN paper checks every
        100 steps, which are many passes over a small corpus: its examples set it
    patience : epochs without a better score after which a fold stops. Ours: no paper says
    batch_size : utterances a step, or segments where the features have them
    balanced_batches : as many of each class in every batch, the rarer ones repeated; an epoch is
        a pass over the most frequent class
    optimizer : Adam, or Adam with Nesterov's momentum (Dozat 2016); beta1 is 0.9
    weight_decay : coupled L2, on what the model names: IAAN's two projection layers
    label_smoothing : share of the target spread over all classes (IAAN's code has 0.1)
    precision : bfloat16 computes the network under autocast, for GPUs that have it; weights,
        losses and scores stay float32
    """

    epochs: int = Field(100, ge=1)
    epoch_steps: int | None = Field(None, ge=1)
    patience: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=1)
    balanced_batches: bool = False
    optimizer: Literal["adam", "nadam"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def last_epoch(self) -> int:
        """How many epochs there are at most."""
        return self.epochs


class SearchConfig(Section):
    """What is searched, and how.

    space : a space in `search_spaces`, or the path of a YAML file of the same form
    trials : configurations to try
    sampler : Optuna's TPE, random, or every point of a grid
    scheduler : `asha` stops a configuration that falls behind at a rung; `none` runs all to the end
    grace_epochs : first rung; the next ones are `reduction_factor` times further each
    reduction_factor : one in so many goes on past a rung
    """

    space: str
    trials: int = Field(50, ge=1)
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    scheduler: Literal["asha", "none"] = "asha"
    grace_epochs: int = Field(5, ge=1)
    reduction_factor: int = Field(3, ge=2)


class ClusterConfig(Section):
    """What a trial takes of the cluster. Left out, each is chosen from what the cluster has.

    workers_per_trial : training processes a trial; a multiple of the folds, or fewer than they
    gpus_per_worker : share of a GPU each
    concurrent_trials : trials at a time, at most; left out, what fits, up to a quarter of the
        trials. It is part of what the search does: a proposal is made from the results of all
        trials but the newest `concurrent_trials` - 1, so that the same seed gives the same search
        whatever finishes first. A sweep keeps the number that it began with
    cpus, gpus : what the cluster can grow to, where nodes come when they are asked for; left out,
        what it has at the start is all there will be, and a trial that wants more is refused
    trial_minutes : after so long a trial is ended and counts as failed; None: never. Of one run of
        it: a resumed trial has them anew
    max_failures : so many failed trials in a row end the sweep, with what they had in common
    """

    workers_per_trial: int | None = Field(None, ge=1)
    gpus_per_worker: float | None = Field(None, ge=0)
    concurrent_trials: int | None = Field(None, ge=1)
    cpus: int | None = Field(None, ge=1)
    gpus: int | None = Field(None, ge=0)
    trial_minutes: float | None = Field(None, gt=0)
    max_failures: int = Field(5, ge=1)

    @property
    def grows(self) -> bool:
        """Whether nodes are announced that are yet to come."""
        return bool(self.cpus or self.gpus)


class Configuration(Section):
    """A run, resolved: every default is filled in.

    What `model`, `features` and `training` may hold, and their defaults, follow from the model:
    each has a class of its own in `CONFIGURATIONS`, and a value that it would ignore is an error.
    """

    corpus: CorpusConfig
    features: FeatureConfig
    model: Any
    folds: FoldsConfig = FoldsConfig()
    training: TrainingConfig
    search: SearchConfig | None = None
    cluster: ClusterConfig = ClusterConfig()
    storage: str = "./runs"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

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

    def __reduce__(self) -> Any:  # its class is made while this module is imported
        return parse, (self.resolved(),)

    def resolved(self) -> dict[str, Any]:
        """As plain values, for YAML and for ids."""
        return self.model_dump(mode="json")

    def with_values(self, values: dict[str, Any]) -> "Configuration":
        """A copy with dotted keys set. Raises ConfigError where a value does not fit."""
        raw = self.resolved()
        for key, value in values.items():
            set_key(raw, key, value)
        return parse(raw)


def _configuration(name: str) -> type[Configuration]:
    """The configuration of a run of one model."""
    model = MODELS[name]
    section: dict[str, Any] = {
        key: (parameter.annotation, parameter.default)
        for key, parameter in model.hyperparameters().items()
    }
    section["name"] = (Literal[name], name)
    changed: dict[str, Any] = {}
    for key, value in model.training.items():
        field = copy.copy(GradientTraining.model_fields[key])  # with its bounds
        field.default = value
        changed[key] = (field.annotation, field)
    features = FEATURE_CONFIGS[model.features]
    training = (
        TrainingConfig
        if hasattr(model.network.func, "fit")
        else create_model(f"training of {name}", __base__=GradientTraining, **changed)
    )
    return create_model(
        f"configuration of {name}",
        __base__=Configuration,
        model=(create_model(f"{name} model", __base__=Section, **section), ...),
        features=(features, features.model_validate({})),
        training=(training, training()),
    )


CONFIGURATIONS = {name: _configuration(name) for name in MODELS}


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.c` in nested dicts, making the ones that are missing."""
    *path, last = key.split(".")
    for part in path:
        inner = raw.get(part)
        if inner is None:
            inner = raw[part] = {}
        elif not isinstance(inner, dict):
            raise ConfigError(f"{key}: {part} is a value and not a section")
        raw = inner
    raw[last] = value


def _allowed(kind: type[Configuration], location: list[str]) -> list[str]:
    """Keys of the section at `location`."""
    section: Any = kind
    for part in location:
        annotation = section.model_fields[part].annotation
        arguments = [annotation, *getattr(annotation, "__args__", ())]
        section = next(
            (a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)), section
        )
    return list(section.model_fields)


def _explain(kind: type[Configuration], error: ValidationError) -> str:
    """One line for each thing that is wrong."""
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key = ".".join(location)
        message = problem["msg"].removeprefix("Value error, ")
        match problem["type"]:
            case "extra_forbidden":
                allowed = _allowed(kind, location[:-1])
                close = difflib.get_close_matches(location[-1], allowed, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(allowed)}"
                lines.append(f"{key}: unknown key; {hint}")
            case "missing":
                lines.append(f"{key}: this key is required")
            case _ if not key:  # about several keys: it names them itself
                lines.append(message)
            case _:
                lines.append(f"{key}: {message[0].lower()}{message[1:]}, not {problem['input']!r}")
    return "\n".join(lines)


def parse(raw: Any) -> Configuration:
    """Check plain values. Raises ConfigError with a line for each key that is wrong."""
    if not isinstance(raw, dict):
        raise ConfigError(f"a configuration is a mapping of sections, not {type(raw).__name__}")
    model, known = raw.get("model"), ", ".join(MODELS)
    if not isinstance(model, dict) or "name" not in model:
        raise ConfigError(f"model.name: this key is required; known: {known}")
    name = model["name"]
    if not isinstance(name, str) or name not in CONFIGURATIONS:
        raise ConfigError(f"model.name: no model {name}; known: {known}")
    kind = CONFIGURATIONS[name]
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(kind, error)) from None


def load(path: str, overrides: list[str] | None = None) -> Configuration:
    """Read a YAML file, apply `key=value` overrides, check. Raises ConfigError."""
    try:
        raw = load_plain(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (YamlError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    for override in overrides or []:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {override}: write it as key=value, for instance --set a.b=1")
        if not isinstance(raw, dict):
            raise ConfigError(f"{path}: a configuration is a mapping of sections")
        try:
            set_key(raw, key, load_plain(value))
        except YamlError:
            raise ConfigError(f"--set {override}: {value!r} is not a YAML value") from None
    try:
        return parse(raw)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).split("\n"))) from None
