import math
import random

import pytest

from lib.errors import DarkroomError
from lib.tuning import methods, space
from lib.tuning.methods import Hyperband
from lib.tuning.search_method import OPTUNA, Ended, Halving, Plan

SPACE = space.read(
    {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 1, "high": 8}, "z": ["a", "b", "c"]}
)
GOAL = {"score": "max"}


def make(name, where, **settings):
    return methods.make(Plan(where, name, "", **settings))


def rounds(epochs, factor):
    return Hyperband.rounds(Plan(SPACE, "hyperband", "", GOAL, epochs, options={"factor": factor}))


def rungs(epochs):
    return [row["to epoch"] for row in Halving.rounds(Plan(SPACE, "halving", "", GOAL, epochs))]


def drive(method, score, *, most=1000, num_parallel=1, first=lambda number: 0):
    """Asks and tells until nothing is proposed any more; returns (proposal, score) in the order of
    the ends. Of several trials that run, `first` says which ends.
    """
    ended, open_ = [], []
    while len(ended) < most:
        while len(open_) < num_parallel and (proposal := method.ask()) is not None:
            open_.append(proposal)
        if not open_:
            return ended
        proposal = open_.pop(first(len(open_)))
        found = score(proposal)
        method.tell(Ended(proposal.number, None if found is None else [found]))
        ended.append((proposal, found))
    return ended


def by_x(proposal):
    return -((proposal.values["x"] - 0.3) ** 2)


def test_hyperband_has_the_rounds_of_the_paper():
    # Li et al. 2018, table 1, the bracket s = 4 of R = 81, eta = 3.
    assert [
        (row["trials"], row["from epoch"], row["to epoch"])
        for row in rounds(81, 3)
        if row["bracket"] == 4
    ] == [
        (81, 0, 1),
        (27, 1, 3),
        (9, 3, 9),
        (3, 9, 27),
        (1, 27, 81),
    ]
    # R = 10 by hand: 10/9 → 2, 10/3 → 4 and 10 epochs; 4 trials wide, since 1 + log3 10 = 3.1: 4/3
    # · 9, 4/3 · 3, 4/3, ….
    assert [
        (row["bracket"], row["trials"], row["from epoch"], row["to epoch"]) for row in rounds(10, 3)
    ] == [
        (2, 12, 0, 2),
        (2, 4, 2, 4),
        (2, 2, 4, 10),
        (1, 6, 0, 4),
        (1, 2, 4, 10),
        (0, 4, 0, 10),
    ]


@pytest.mark.parametrize("num_parallel", [1, 3])
@pytest.mark.parametrize(("epochs", "factor"), [(10, 3), (4, 2), (1, 3)])
def test_hyperband_proposes_just_these_rounds(epochs, factor, num_parallel):
    method = make("hyperband", SPACE, goals=GOAL, epochs=epochs, options={"factor": factor})
    ended = drive(method, by_x, num_parallel=num_parallel)
    planned = rounds(epochs, factor)
    assert len(ended) == sum(row["trials"] for row in planned)
    for row in planned:
        place = {"bracket": row["bracket"], "round": row["round"]}
        there = [p for p, _ in ended if p.about == place]
        assert len(there) == row["trials"]
        assert {p.epochs for p in there} == {row["to epoch"]}


def test_hyperband_promotes_the_best_of_each_round_and_names_whom_they_continue_with():
    ended = drive(make("hyperband", SPACE, goals=GOAL, epochs=10), by_x)
    proposals = {p.number: p for p, _ in ended}
    first = [p for p, _ in ended if (p.about["bracket"], p.about["round"]) == (2, 0)]
    second = [p for p, _ in ended if (p.about["bracket"], p.about["round"]) == (2, 1)]
    best = sorted(first, key=by_x, reverse=True)[:4]
    assert {p.parent for p in second} == {p.number for p in best}
    assert all(p.values == proposals[p.parent].values for p in second)
    assert all(p.parent is None for p in first)


def test_hyperband_continues_where_trials_fail():
    """KerasTuner's own bracket stalls for ever when a third of a round has failed."""
    ended = drive(
        make("hyperband", SPACE, goals=GOAL, epochs=10),
        lambda p: None if p.number % 2 else by_x(p),
    )
    assert len(ended) == sum(row["trials"] for row in rounds(10, 3))
    assert all(
        score is not None
        for p, score in ended
        if p.about == {"bracket": 2, "round": 1} and p.number % 2 == 0
    )


def test_seed_zero_is_a_seed():
    values = [
        [p.values for p, _ in drive(make("hyperband", SPACE, goals=GOAL, epochs=3), by_x)]
        for _ in range(2)
    ]
    assert values[0] == values[1]


def test_hyperband_refuses_a_space_that_is_smaller_than_its_first_rounds():
    small = space.read({"z": ["a", "b", "c"], "y": [1, 2]})
    with pytest.raises(
        DarkroomError, match="has 6 combinations, and Hyperband .* starts 22 different trials"
    ):
        make("hyperband", small, goals=GOAL, epochs=10)


@pytest.mark.parametrize("name", OPTUNA)
def test_a_sampler_ends_after_its_trials_and_follows_from_its_seed(name):
    def run(seed):
        ended = drive(make(name, SPACE, goals=GOAL, num_trials=25, seed=seed), by_x)
        return [p.values for p, _ in ended]

    first = run(1)
    assert len(first) == 25 and first == run(1) != run(2)
    for values in first:
        assert 0 <= values["x"] <= 1 and values["y"] in range(1, 9) and values["z"] in "abc"


@pytest.mark.parametrize("name", ["tpe", "genetic", "cmaes", "random"])
@pytest.mark.parametrize("slots", [2, 3])
def test_which_trial_ends_first_changes_no_proposal(name, slots):
    plain = space.read({"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}})

    def proposals(first):
        method = make(name, plain, goals=GOAL, num_trials=40)
        method.slots = slots
        ended = drive(method, by_x, num_parallel=slots, first=first)
        return sorted((proposal.number, proposal.values["x"]) for proposal, _ in ended)

    in_order = proposals(lambda number: 0)
    assert len(in_order) == 40
    for seed in range(3):
        assert proposals(random.Random(seed).randrange) == in_order
    assert proposals(lambda number: number - 1) == in_order


def test_what_was_done_before_is_free():
    two = space.read({"z": ["a", "b"]})
    method = make("random", two, goals=GOAL, num_trials=2)
    seen, asked = set(), 0
    while (proposal := method.ask()) is not None:
        asked += 1
        method.tell(Ended(proposal.number, [1.0], (), proposal.values["z"] not in seen))
        seen.add(proposal.values["z"])
    assert seen == {"a", "b"} and asked <= 10


def test_several_goals_are_sought_by_the_genetic_search():
    method = make(
        "genetic",
        SPACE,
        goals={"score": "max", "seconds": "min"},
        num_trials=60,
        options={"population": 10},
    )
    best = []
    while (proposal := method.ask()) is not None:
        x = proposal.values["x"]
        method.tell(Ended(proposal.number, [x, x**2]))
        best.append(x)
    assert len(best) == 60
    with pytest.raises(
        DarkroomError, match="hyperband optimises one goal. Received: score, seconds"
    ):
        make("hyperband", SPACE, goals={"score": "max", "seconds": "min"})


def test_the_median_pruner_stops_what_is_worse_than_half():
    method = make("random", SPACE, goals=GOAL, num_trials=8, epochs=4, options={"pruner": "median"})
    stopped = []
    for quality in (5, 4, 3, 2, 1, 0, 9, 0):
        proposal = method.ask()
        pruned = False
        for epoch in range(1, 5):
            pruned = pruned or method.report(proposal.number, epoch, [quality + epoch])
        method.tell(Ended(proposal.number, None if pruned else [quality + 4]))
        stopped.append(pruned)
    assert stopped == [False] * 5 + [True, False, True]  # the first five are never stopped


def test_a_grid_of_four_by_three_is_twelve_and_its_order_follows_from_the_seed():
    small = space.read({"z": ["a", "b", "c"], "y": [1, 2, 3, 4]})
    ended = [drive(make("grid", small, goals=GOAL, seed=seed), lambda p: 0.0) for seed in (0, 0, 1)]
    orders = [[p.values for p, _ in each] for each in ended]
    assert orders[0] == orders[1] != orders[2]
    assert len({tuple(values.items()) for values in orders[0]}) == 12


def test_a_refined_grid_closes_in_on_the_one_maximum():
    one = space.read({"c": {"low": 0.01, "high": 100.0, "log": True}, "z": ["a", "b"]})
    method = make("refined", one, goals=GOAL, options={"points": 5, "rounds": 6})
    ended = drive(method, lambda p: -abs(math.log10(p.values["c"] / 0.4)) + (p.values["z"] == "b"))
    best = max(ended, key=lambda each: each[1])[0]
    assert best.values["c"] == pytest.approx(0.4, rel=0.05) and best.values["z"] == "b"
    assert len(ended) <= 5 * 2 + 5 * 5  # later rounds keep z
    assert len({tuple(p.values.items()) for p, _ in ended}) == len(ended)


def test_halving_keeps_the_best_third_of_each_rung():
    assert rungs(9) == [1, 3, 9] and rungs(10) == [1, 3, 10] and rungs(1) == [1]
    ended = drive(make("halving", SPACE, goals=GOAL, epochs=9), by_x, num_parallel=4)
    assert [p.epochs for p, _ in ended] == [1] * 9 + [3] * 3 + [9]
    first = sorted((p for p, _ in ended[:9]), key=by_x, reverse=True)
    assert {p.parent for p, _ in ended[9:12]} == {p.number for p in first[:3]}
    assert ended[12][0].values == first[0].values
    few = space.read({"z": ["a", "b"]})
    assert len(drive(make("halving", few, goals=GOAL, epochs=9), lambda p: 0.0)) == 2 + 1 + 1


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("hyperbnad", {}, "Did you mean 'hyperband'"),
        ("tpe", {}, "`num_trials` must be at least 1 for tpe"),
        (
            "grid",
            {"options": {"factor": 3}},
            "grid: `option` must be one of points. Received: 'factor'",
        ),
        (
            "tpe",
            {"num_trials": 5, "options": {"pruner": "median"}},
            "needs one goal and at least two epochs",
        ),
        (
            "halving",
            {"options": {"factor": 1}},
            "`factor` of halving must be a whole number of at least 2",
        ),
        (
            "refined",
            {"options": {"points": 2}},
            "`points` of refined must be a whole number of at least 3",
        ),
        ("hyperband", {"epochs": 0}, "`epochs` must be at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(name, settings, message):
    with pytest.raises(DarkroomError, match=message):
        make(name, SPACE, goals=GOAL, **settings)


def test_cmaes_refuses_a_space_without_numbers():
    with pytest.raises(
        DarkroomError, match="cmaes needs at least two numeric .* Received: y. Use tpe"
    ):
        make("cmaes", space.read({"y": [1, 2, 3], "z": ["a", "b"]}), goals=GOAL, num_trials=5)
