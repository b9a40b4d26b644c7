"""Trial ids, changes of a sweep, and the digest of the code that decides results."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.ledger.records import FeatureFiles, SweepRecord
from orchestrator.sweep.identity import CODE, changes, code, code_digest, combined, trial_id

DECISIVE: list[dict[str, Any]] = [
    {"training.seed": 1},
    {"training.epochs": 5},
    {"training.class_weights": "balanced"},
    {"model.dropout": 0.3},
    {"model.name": "bigru_att"},
    {"features.pool": 1},
    {"folds.selection": "held_out"},
    {"corpus.merge": {"exc": "hap"}},
]
IRRELEVANT: list[dict[str, Any]] = [
    {"storage": "/elsewhere"},
    {"name": "other"},
    {"corpus.root": "moved.csv"},
    {"cluster.workers_per_trial": 3},
    {"training.checkpoint_every": 1.0},
    {"features.max_errors": 3},
]


def test_a_trial_id_depends_on_everything_that_decides_the_results_and_on_nothing_else(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    def identity(values: dict[str, Any], data: str = "data", replicas: int = 1) -> str:
        chosen = configuration.with_values(values)
        return trial_id(chosen, folds, dataset.ids, data, replicas)

    reference = identity({})
    assert len(reference) == 10
    assert int(reference, 16) >= 0
    for values in [*IRRELEVANT, {"search.space": "iaan"}]:
        assert identity(values) == reference, values
    fewer = [Fold(f.name, f.train[1:], f.validation, f.test) for f in folds]
    others = {
        *(identity(values) for values in DECISIVE),
        identity({}, data="other data"),
        identity({}, replicas=2),
        trial_id(configuration, fewer, dataset.ids, "data"),
        trial_id(configuration, folds, dataset.ids[::-1], "data"),
    }
    assert len(others | {reference}) == len(DECISIVE) + 4 + 1


def test_a_key_that_is_newer_than_stored_trials_does_not_change_their_ids(
    dataset: Dataset, folds: list[Fold]
) -> None:
    """The id, and the record, are those of the version before `training.class_weights`."""
    configuration = parse(
        {
            "name": "old",
            "corpus": {"root": "nowhere.csv", "classes": ["ang", "hap", "neu", "sad"]},
            "model": {"name": "acrnn"},
        }
    )
    assert trial_id(configuration, folds, dataset.ids, "data") == "f1a081396e"
    stored = record(configuration)
    del stored.configuration["training"]["class_weights"]
    assert changes(stored, record(configuration)) == []
    other = {"training.class_weights": "balanced", "training.balanced_batches": False}
    assert (
        "training.class_weights was 'none' and is now 'balanced'"
        in changes(stored, record(configuration.with_values(other)))
    )  # fmt: skip


@pytest.fixture
def searched(configuration: Configuration) -> Configuration:
    raw = configuration.resolved()
    raw["search"] = {"space": "iaan_small", "trials": 4}
    return parse(raw)


def record(configuration: Configuration, **fields: Any) -> SweepRecord:
    """A sweep's record with the fields that `changes` reads."""
    common = {"fingerprint": "data", "space": {}, "replicas": 1, "code": {"models": "0" * 10}}
    return SweepRecord.model_construct(
        configuration=configuration.resolved(), **{**common, **fields}
    )


@pytest.mark.parametrize(
    "values",
    [*DECISIVE, {"search.sampler": "random"}, {"search.scheduler": "none"}, {"search.lag": 3}],
    ids=lambda values: next(iter(values)),
)
def test_a_change_of_a_decisive_key_is_named_with_both_values(
    searched: Configuration, values: dict[str, Any]
) -> None:
    lines = changes(record(searched), record(searched.with_values(values)))
    key = next(iter(values))
    assert any(line.startswith(f"{key}") and " and is now " in line for line in lines), lines


@pytest.mark.parametrize(
    "values",
    [value for value in IRRELEVANT if "name" not in value]
    + [{"search.trials": 9}, {"corpus.note": "A new remark."}, {"cluster.concurrent_trials": 9}],
    ids=lambda values: next(iter(values)),
)
def test_other_keys_may_change_under_a_sweeps_name(
    searched: Configuration, values: dict[str, Any]
) -> None:
    assert changes(record(searched), record(searched.with_values(values))) == []


def test_other_contents_of_the_files_of_features_are_named(searched: Configuration) -> None:
    def files(path: str, *contents: str) -> dict[str, Any]:
        return {"feature_files": [FeatureFiles(files={"encoder": path}, contents=list(contents))]}

    stored = record(searched, **files("wavlm", "0a", "0b"))
    assert changes(stored, record(searched, **files("wavlm", "0a", "0b"))) == []
    assert changes(stored, record(searched)) == []  # other feature sets, which other keys name
    assert changes(record(searched), stored) == []  # a sweep that did not record them
    assert changes(stored, record(searched, **files("wavlm", "0a", "0c"))) == [
        "the contents of features.encoder=wavlm have changed"
    ]


def test_a_record_that_is_older_than_the_key_lag_has_not_changed(searched: Configuration) -> None:
    older = record(searched)
    del older.configuration["search"]["lag"]
    assert changes(older, record(searched)) == []


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        pytest.param({"fingerprint": "new"}, "data was 'data' and is now 'new'", id="data"),
        pytest.param(
            {"space": {"first": {}}}, "space.first was None and is now {}", id="search space"
        ),
        pytest.param({"replicas": 2}, "replicas was 1 and is now 2", id="replicas"),
        pytest.param(
            {"code": {"models": "f" * 10}},
            "code.models was '0000000000' and is now 'ffffffffff'",
            id="code",
        ),
    ],
)
def test_a_change_outside_the_configuration_is_named(
    searched: Configuration, fields: dict[str, Any], line: str
) -> None:
    assert changes(record(searched), record(searched, **fields)) == [line]


SOURCE = '''
"""A docstring."""
from ser_models.base import Sizes
LIMIT = 0.5


def clip(value):
    """Limit a value."""
    if value > LIMIT:  # the largest
        raise ValueError(f"{value} is too large")
    return value
'''


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("# the largest", "# the highest"), id="comment"),
        pytest.param(("Limit a value.", "Check a value."), id="docstring of a function"),
        pytest.param(('"""A docstring."""', ""), id="docstring of a module"),
        pytest.param(("value > LIMIT", "(value\n            > LIMIT)"), id="formatting"),
        pytest.param(("is too large", "exceeds the limit"), id="error message"),
        pytest.param(("ser_models.base", "ser_models.sizes"), id="import of a moved module"),
    ],
)
def test_text_for_people_does_not_change_the_digest_of_code(change: tuple[str, str]) -> None:
    assert change[0] in SOURCE
    assert code_digest([SOURCE.replace(*change)]) == code_digest([SOURCE])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("LIMIT = 0.5", "LIMIT = 0.6"), id="constant"),
        pytest.param(("value > LIMIT", "value >= LIMIT"), id="operator"),
        pytest.param(("return value", "return 2 * value"), id="statement"),
        pytest.param(("raise ValueError", "raise TypeError"), id="kind of error"),
        pytest.param(("LIMIT = 0.5", "LIMIT = 0.5\nimport torch"), id="import of a library"),
    ],
)
def test_a_change_of_a_value_or_a_statement_changes_the_digest_of_code(
    change: tuple[str, str],
) -> None:
    assert change[0] in SOURCE
    assert code_digest([SOURCE.replace(*change)]) != code_digest([SOURCE])


def test_the_digest_of_code_does_not_depend_on_the_file_of_a_definition() -> None:
    first, second = "A = 1\n", "def double(x):\n    return 2 * x\n"
    assert code_digest([first, second]) == code_digest([second, first])
    assert code_digest([first, second]) == code_digest([first + second])


def test_every_role_of_code_has_files_and_its_own_digest() -> None:
    root = Path(__file__).parents[3]
    for patterns in CODE.values():
        assert all(list(root.glob(pattern)) for pattern in patterns), patterns
    digests = code()
    assert digests.keys() == CODE.keys()
    assert len(set(digests.values())) == len(digests)
    for role in digests:
        assert combined(digests | {role: "0" * 10}) != combined(digests)


@pytest.mark.parametrize(
    "file",
    [
        "orchestrator/sweep/assignment.py",
        "orchestrator/training/inspection.py",
        "orchestrator/training/checkpoints.py",
        "ser_models/iaan.py",
        "features/sets/logmel3d.py",
    ],
)
def test_files_that_decide_bits_are_part_of_the_code(file: str) -> None:
    root = Path(__file__).parents[3]
    files = {path for patterns in CODE.values() for p in patterns for path in root.glob(p)}
    assert root / file in files
