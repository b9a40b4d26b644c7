"""The previous and random turns of an utterance, against their definitions."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.context import ABSENT, previous_turns, random_turns


def test_the_newest_turns_of_both_speakers() -> None:
    speakers = ["a", "b", "b", "a", "a", "b"]
    own, other = previous_turns(speakers, ["d"] * 6, list(range(6)))
    assert own.tolist() == [ABSENT, ABSENT, 1, 0, 3, 2]
    assert other.tolist() == [ABSENT, 0, 0, 2, 2, 4]


def test_turn_numbers_decide_the_order_not_rows() -> None:
    own, other = previous_turns(["a", "b", "a"], ["d"] * 3, [30, 20, 10])
    assert own.tolist() == [2, ABSENT, ABSENT]
    assert other.tolist() == [1, 2, ABSENT]


def test_context_ends_with_the_window_and_the_dialogue() -> None:
    speakers = ["a", *["b"] * 8, "a"]
    own, _ = previous_turns(speakers, ["d"] * 10, list(range(10)))
    assert own[9] == ABSENT  # nine turns before
    own, _ = previous_turns(speakers, ["d"] * 10, list(range(10)), window=9)
    assert own[9] == 0
    own, other = previous_turns(["a", "a"], ["d", "e"], [0, 1])
    assert own.tolist() == other.tolist() == [ABSENT, ABSENT]


def test_an_utterance_outside_dialogues_has_no_context() -> None:
    own, other = previous_turns(["a", "a"], [None, None], [None, None])
    assert own.tolist() == other.tolist() == [ABSENT, ABSENT]


conversations = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["d", "e", None])), max_size=40
)


@given(conversations, st.integers(1, 10))
def test_against_the_definition(rows: list[tuple[str, str | None]], window: int) -> None:
    speakers = [speaker for speaker, _ in rows]
    dialogues = [dialogue for _, dialogue in rows]
    own, other = previous_turns(speakers, dialogues, list(range(len(rows))), window)
    for row, dialogue in enumerate(dialogues):
        before = [r for r in range(row) if dialogue is not None and dialogues[r] == dialogue]
        near = before[-window:]
        mine = [r for r in near if speakers[r] == speakers[row]]
        theirs = [r for r in near if speakers[r] != speakers[row]]
        assert own[row] == (mine[-1] if mine else ABSENT)
        assert other[row] == (theirs[-1] if theirs else ABSENT)


@given(conversations, st.integers(0, 5))
def test_random_turns_are_other_turns_of_the_dialogue(
    rows: list[tuple[str, str | None]], seed: int
) -> None:
    dialogues = [dialogue for _, dialogue in rows]
    turns = list(range(len(rows)))
    drawn = random_turns(dialogues, turns, seed)
    for row, dialogue in enumerate(dialogues):
        alone = dialogue is None or dialogues.count(dialogue) < 2
        for part in drawn:
            assert (part[row] == ABSENT) == alone
            if not alone:
                assert part[row] != row
                assert dialogues[part[row]] == dialogue
        if not alone:
            assert (drawn[0][row] == drawn[1][row]) == (dialogues.count(dialogue) == 2)
    again = random_turns(dialogues, turns, seed)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_another_seed_draws_other_turns_and_all_turns_are_drawn() -> None:
    dialogues, turns = ["d"] * 30, list(range(30))
    first, _ = random_turns(dialogues, turns, 0)
    second, _ = random_turns(dialogues, turns, 1)
    assert not np.array_equal(first, second)
    seen = {int(random_turns(dialogues, turns, seed)[0][3]) for seed in range(300)}
    assert seen == set(range(30)) - {3}


def test_every_pair_of_different_turns_is_drawn_equally_often() -> None:
    """A dialogue of four turns has six ordered pairs without the current turn."""
    dialogues, turns = ["d"] * 4 + ["e"], [0, 1, 2, 3, 0]
    draws = [np.stack(random_turns(dialogues, turns, seed)) for seed in range(3000)]
    for row in range(4):
        counts = Counter(tuple(drawn[:, row].tolist()) for drawn in draws)
        assert set(counts) == set(itertools.permutations(set(range(4)) - {row}, 2))
        # 500 each; the deviation of a count is 20.4
        assert all(abs(count - 500) < 100 for count in counts.values())


def test_an_empty_window_and_an_empty_corpus() -> None:
    own, other = previous_turns(["a", "a"], ["d"] * 2, [0, 1], window=0)
    assert own.tolist() == other.tolist() == [ABSENT, ABSENT]
    for empty in (previous_turns([], [], []), random_turns([], [], 0)):
        assert [len(part) for part in empty] == [0, 0]
