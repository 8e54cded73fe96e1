"""The comparison itself: it takes no difference that is not expected, and misses none that is."""

from __future__ import annotations

from tests.parity.differences import ABSENT, ANY, Difference, unexplained

TREE = {"packages/a/": "digest", "packages/a/mtime": 1.0, "status": "5"}


def test_the_same_facts_leave_nothing_to_explain() -> None:
    assert unexplained(TREE, dict(TREE), ()) == []


def test_another_value_is_told_with_both() -> None:
    assert unexplained(TREE, {**TREE, "status": "6"}, ()) == ["status: bandersnatch '5', fastmirror '6'"]


def test_what_one_side_lacks_is_told_once_without_what_is_said_of_it() -> None:
    assert unexplained(TREE, {"status": "5"}, ()) == ["packages/a/: bandersnatch 'digest', fastmirror absent"]


def test_a_difference_explains_no_other_value_than_its_own() -> None:
    expected = (Difference("stat*", "5", "6", "why"),)
    assert unexplained(TREE, {**TREE, "status": "6"}, expected) == []
    assert unexplained(TREE, {**TREE, "status": "7"}, expected) == [
        "status: bandersnatch '5', fastmirror '7'",
        "not found: stat*: why",
    ]


def test_anything_is_not_nothing() -> None:
    expected = (Difference("status", ANY, ANY, "why"),)
    without = {key: value for key, value in TREE.items() if key != "status"}
    assert "status: bandersnatch '5', fastmirror absent" in unexplained(TREE, without, expected)
    assert unexplained(TREE, without, (Difference("status", ANY, ABSENT, "why"),)) == []


def test_what_is_expected_and_not_there_is_told() -> None:
    assert unexplained(TREE, dict(TREE), (Difference("todo", ANY, ABSENT, "why"),)) == ["not found: todo: why"]


def test_true_and_one_are_two_values() -> None:
    expected = (Difference("yanked", True, "reason", "why"),)
    assert unexplained({"yanked": 1}, {"yanked": "reason"}, expected) != []
