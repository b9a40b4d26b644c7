"""The previous and random turns of an utterance, against their definitions."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.context import ABSENT, Turns, previous_turns, random_turns, turns_before


def newest(
    speakers: list[str], dialogues: list[str | None], turns: list[int | None], window: int = 8
) -> list[list[int]]:
    """The last turn of the same speaker and of another one, of each utterance."""
    both = turns_before(speakers, dialogues, turns, window, most=1)
    assert all((of.counts <= 1).all() for of in both)
    return [of.newest.tolist() for of in both]


def test_the_newest_turns_of_both_speakers() -> None:
    speakers = ["a", "b", "b", "a", "a", "b"]
    own, other = newest(speakers, ["d"] * 6, list(range(6)))
    assert own == [ABSENT, ABSENT, 1, 0, 3, 2]
    assert other == [ABSENT, 0, 0, 2, 2, 4]


def test_turn_numbers_decide_the_order_not_rows() -> None:
    own, other = newest(["a", "b", "a"], ["d"] * 3, [30, 20, 10])
    assert own == [2, ABSENT, ABSENT]
    assert other == [1, 2, ABSENT]


def test_context_ends_with_the_window_and_the_dialogue() -> None:
    speakers = ["a", *["b"] * 8, "a"]
    own, _ = newest(speakers, ["d"] * 10, list(range(10)))
    assert own[9] == ABSENT  # nine turns before
    own, _ = newest(speakers, ["d"] * 10, list(range(10)), window=9)
    assert own[9] == 0
    own, other = newest(["a", "a"], ["d", "e"], [0, 1])
    assert own == other == [ABSENT, ABSENT]


def test_an_utterance_outside_dialogues_has_no_context() -> None:
    own, other = newest(["a", "a"], [None, None], [None, None])
    assert own == other == [ABSENT, ABSENT]


conversations = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["d", "e", None])), max_size=40
)


@settings(deadline=None)
@given(conversations, st.integers(0, 45), st.one_of(st.none(), st.integers(1, 4)))
def test_against_the_definition(
    rows: list[tuple[str, str | None]], window: int, most: int | None
) -> None:
    """All turns of the window by speaker, the oldest first, or the newest of these."""
    speakers = [speaker for speaker, _ in rows]
    dialogues = [dialogue for _, dialogue in rows]
    own, other = turns_before(speakers, dialogues, list(range(len(rows))), window, most)
    assert len(own.offsets) == len(other.offsets) == len(rows) + 1
    for row, dialogue in enumerate(dialogues):
        before = [r for r in range(row) if dialogue is not None and dialogues[r] == dialogue]
        near = before[-window:] if window else []
        mine = [r for r in near if speakers[r] == speakers[row]]
        theirs = [r for r in near if speakers[r] != speakers[row]]
        for turns, expected in ((own, mine), (other, theirs)):
            expected = expected[-(most or len(expected)) :]
            assert turns_of(turns, row) == expected
            assert turns.newest[row] == (expected[-1] if expected else ABSENT)


def turns_of(turns: Turns, row: int) -> list[int]:
    return turns.rows[turns.offsets[row] : turns.offsets[row + 1]].tolist()


def test_shuffled_rows_have_the_turns_of_the_conversation() -> None:
    """The order of the rows does not matter. Turns are the oldest first."""
    speakers, numbers = list("abbabaab"), list(range(8))
    order = np.random.default_rng(3).permutation(8)
    straight = turns_before(speakers, ["d"] * 8, numbers, 5)
    shuffled = turns_before([speakers[i] for i in order], ["d"] * 8, [numbers[i] for i in order], 5)
    for plain, mixed in zip(straight, shuffled, strict=True):
        for row, original in enumerate(order):
            assert [order[turn] for turn in turns_of(mixed, row)] == turns_of(plain, original)
    assert turns_of(straight[0], 7) == [2, 4]
    assert turns_of(straight[1], 7) == [3, 5, 6]


def test_the_context_of_iaan_is_one_turn_of_eight() -> None:
    speakers = ["a", *["b"] * 8, "a", "b"]
    arguments = (speakers, ["d"] * 11, list(range(11)))
    for turns, expected in zip(
        previous_turns(*arguments), turns_before(*arguments, 8, most=1), strict=True
    ):
        assert np.array_equal(turns.rows, expected.rows)
        assert np.array_equal(turns.offsets, expected.offsets)


ragged = st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=10)


@settings(deadline=None)
@given(ragged, st.data())
def test_taking_and_renumbering(lists: list[list[int]], data: st.DataObject) -> None:
    takers = [taker for taker, turns in enumerate(lists) for _ in turns]
    flat = [turn for turns in lists for turn in turns]
    turns = Turns.of(
        np.asarray(takers, dtype=np.int64), np.asarray(flat, dtype=np.int64), len(lists)
    )
    assert [turns_of(turns, row) for row in range(len(lists))] == lists
    assert turns.counts.tolist() == [len(each) for each in lists]
    assert turns.takers.tolist() == takers
    chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=12))
    some = turns.take(np.asarray(chosen, dtype=np.int64))
    assert [turns_of(some, row) for row in range(len(chosen))] == [lists[i] for i in chosen]
    place = data.draw(st.lists(st.integers(ABSENT, 5), min_size=10, max_size=10))
    moved = turns.renumbered(np.asarray(place, dtype=np.int64))
    assert [turns_of(moved, row) for row in range(len(lists))] == [
        [place[turn] for turn in each if place[turn] != ABSENT] for each in lists
    ]


def test_no_turns() -> None:
    turns = Turns.none(3)
    assert turns.newest.tolist() == [ABSENT] * 3
    assert turns.counts.tolist() == [0, 0, 0]
    assert len(turns.take(np.asarray([2, 0])).rows) == 0


@given(conversations, st.integers(0, 5))
def test_random_turns_are_other_turns_of_the_dialogue(
    rows: list[tuple[str, str | None]], seed: int
) -> None:
    dialogues = [dialogue for _, dialogue in rows]
    turns = list(range(len(rows)))
    drawn = [of.newest for of in random_turns(dialogues, turns, seed)]
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
    assert all(np.array_equal(a, b.newest) for a, b in zip(drawn, again, strict=True))
    assert all((of.counts <= 1).all() for of in again)


def test_another_seed_draws_other_turns_and_all_turns_are_drawn() -> None:
    dialogues, turns = ["d"] * 30, list(range(30))
    first, _ = random_turns(dialogues, turns, 0)
    second, _ = random_turns(dialogues, turns, 1)
    assert not np.array_equal(first.newest, second.newest)
    seen = {int(random_turns(dialogues, turns, seed)[0].newest[3]) for seed in range(300)}
    assert seen == set(range(30)) - {3}


def test_every_pair_of_different_turns_is_drawn_equally_often() -> None:
    """A dialogue of four turns has six ordered pairs without the current turn."""
    dialogues, turns = ["d"] * 4 + ["e"], [0, 1, 2, 3, 0]
    draws = [
        np.stack([of.newest for of in random_turns(dialogues, turns, seed)]) for seed in range(3000)
    ]
    for row in range(4):
        counts = Counter(tuple(drawn[:, row].tolist()) for drawn in draws)
        assert set(counts) == set(itertools.permutations(set(range(4)) - {row}, 2))
        # 500 each; the deviation of a count is 20.4
        assert all(abs(count - 500) < 100 for count in counts.values())


def test_an_empty_window_and_an_empty_corpus() -> None:
    own, other = newest(["a", "a"], ["d"] * 2, [0, 1], window=0)
    assert own == other == [ABSENT, ABSENT]
    for empty in (previous_turns([], [], []), random_turns([], [], 0)):
        assert [len(part.newest) for part in empty] == [0, 0]
