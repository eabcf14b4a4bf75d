from __future__ import annotations

from txlb.config.problems import Problem, Suggestions, in_order, show_path


def test_a_problem_is_one_line_with_its_place() -> None:
    assert str(Problem("lb.yaml", 3, 5, "a[1].b", "is bad")) == "lb.yaml:3:5: a[1].b: is bad"
    assert str(Problem("lb.yaml", 1, 1, "", "the file is empty")) == "lb.yaml:1:1: the file is empty"
    assert str(Problem("lb.yaml", 0, 0, "", "cannot be read")) == "lb.yaml: cannot be read"
    assert str(Problem("", 0, 0, "weight", "is bad")) == "weight: is bad"
    assert str(Problem("", 0, 0, "algorithm", "fails:\n    first\r\n  then  so\u2028")) == (
        "algorithm: fails: first then  so "
    )


def test_paths_stay_on_their_line() -> None:
    assert show_path(("backends", 1, "weight")) == "backends[1].weight"
    assert show_path((0, "a")) == "[0].a"
    assert show_path(("a", "b\nc")) == "a.'b\\nc'"


def test_suggestions_are_the_nearest_name_if_it_is_near() -> None:
    suggestions = Suggestions()
    assert suggestions.near("wieght", ["id", "weight"]) == " (did you mean weight?)"
    assert suggestions.near("WEIGHT", ["id", "weight"]) == " (did you mean weight?)"
    assert suggestions.near("zzz", ["id", "weight"]) == ""


def test_suggestions_are_bounded() -> None:
    suggestions = Suggestions(budget=1)
    assert suggestions.near("wieght", ["weight"])
    assert not suggestions.near("wieght", ["weight"])
    assert not Suggestions().near("x" * 200, ["x" * 200])


def test_problems_come_in_the_order_of_the_file_each_once() -> None:
    first = Problem("f", 1, 9, "a", "x")
    second = Problem("f", 2, 1, "b", "x")
    alias = Problem("f", 2, 1, "c", "x")
    assert in_order([second, alias, first]) == [first, second]
    no_place = [Problem("", 0, 0, "a", "x"), Problem("", 0, 0, "b", "x")]
    assert in_order(no_place) == no_place
