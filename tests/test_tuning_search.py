import errno
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib import processes, runs
from lib.batch.dask_executor import Executor
from lib.errors import DarkroomError
from lib.tuning import cost_estimate, event_log, executors, search, space, trials, worker
from lib.tuning.search import Plan

LINE = space.read({"x": {"low": 0.0, "high": 1.0}})
TENTHS = space.read({"x": {"low": 0.0, "high": 1.0, "step": 0.1}})
PARABOLA = "objectives:parabola"


@pytest.fixture
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")


def plan(method="random", where=LINE, **changes):
    return Plan(
        where,
        method,
        **{"objective": PARABOLA, "goals": {"score": "max"}, "num_trials": 6, **changes},
    )


def ran(file):
    return [line.split()[0] for line in file.read_text().splitlines()]


def known(found):
    return [(t.number, t.values, t.epochs, t.state, t.scores) for t in found.trials]


def test_a_search_in_memory_finds_the_best_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = search.run(plan("grid", TENTHS, num_trials=0))
    assert found.best.values == {"x": pytest.approx(0.3)} and found.best.scores == {
        "score": pytest.approx(-1.0)
    }
    assert found.complete and len(found.trials) == 11 and not list(tmp_path.iterdir())
    assert [round(trial.values["x"], 1) for trial in found.ranked[:3]] in (
        [0.3, 0.2, 0.4],
        [0.3, 0.4, 0.2],
    )


@pytest.mark.parametrize(
    "method", ["random", "tpe", "genetic", "grid", "refined", "halving", "hyperband"]
)
def test_a_search_that_was_stopped_anywhere_ends_as_one_that_was_not(method, tmp_path, monkeypatch):
    where = TENTHS if method == "grid" else LINE
    wanted = plan(method, where, epochs=3, settings={"ran": str(tmp_path / "ran")}, num_trials=8)
    straight = known(search.run(wanted))
    (tmp_path / "ran").unlink()
    left = []

    def stop(told, trial):
        left.append(trial.number)
        if len(left) % 3 == 0:
            raise KeyboardInterrupt

    folder, stops = tmp_path / "search", 0
    while True:
        try:
            found = search.run(wanted, folder, on_trial_end=stop)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 1 and known(found) == straight
    assert len(ran(tmp_path / "ran")) == len(straight)  # none twice
    assert known(search.run(wanted, folder)) == straight and len(ran(tmp_path / "ran")) == len(
        straight
    )


def test_a_torn_last_line_is_cut_off_and_a_damaged_one_refused(tmp_path):
    first = known(search.run(plan(), tmp_path))
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: whole.rstrip(b"\n").rfind(b"\n") + 10])
    assert known(search.run(plan(), tmp_path)) == first
    journal.write_bytes(b"{" + whole)
    with pytest.raises(DarkroomError, match="Line 1 of .* is not valid"):
        search.run(plan(), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"num_trials": 7}, {"method": "tpe"}, {"where": TENTHS}, {"settings": {"d": 1}}],
)
def test_another_search_in_the_same_folder_is_refused(changes, tmp_path):
    search.run(plan(), tmp_path)
    before = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(DarkroomError, match="holds a different search"):
        search.run(plan(**changes), tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_the_same_trial_is_not_computed_twice(tmp_path):
    file = tmp_path / "ran"
    few = space.read({"x": [0.1, 0.2, 0.3]})
    found = search.run(plan("random", few, num_trials=3, settings={"ran": str(file)}))
    assert sorted({json.dumps(trial.values) for trial in found.trials}) == [
        '{"x": 0.1}',
        '{"x": 0.2}',
        '{"x": 0.3}',
    ]
    assert len(ran(file)) == 3 and Counter(trial.state for trial in found.trials)["finished"] == 3
    copied = [trial for trial in found.trials if trial.state == "copied"]
    assert all(trial.scores == found.trials[trial.about["copy_of"]].scores for trial in copied)


def test_a_loser_s_checkpoints_go_as_soon_as_the_next_rung_begins(tmp_path):
    left = []

    def watch(told, trial):
        left.append(len(list(tmp_path.glob("checkpoints/*"))))

    search.run(
        plan("halving", objective="objectives:chained", epochs=9, options={"first_trials": 9}),
        tmp_path,
        on_trial_end=watch,
    )
    assert left == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        3,
        3,
        3,
        1,
    ]  # nine for one epoch, three of them for three, one for nine


def test_a_promoted_trial_continues_where_its_parent_stopped(tmp_path):
    left = []

    def watch(told, trial):
        left.append(len(list(tmp_path.glob("checkpoints/*"))))

    found = search.run(
        plan("hyperband", objective="objectives:chained", epochs=9), tmp_path, on_trial_end=watch
    )
    assert max(left) > 5 and not list(
        tmp_path.glob("checkpoints")
    )  # kept while a trial may be promoted, then dropped
    assert all(trial.scores == {"score": trial.epochs} for trial in found.trials)
    for trial in found.trials:
        first = 1 if trial.parent is None else found.trials[trial.parent].epochs + 1
        assert [row["epoch"] for row in trial.rows] == list(range(first, trial.epochs + 1))


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruned_trials_are_stopped_and_say_so(pruner):
    found = search.run(plan("random", epochs=10, num_trials=20, options={"pruner": pruner}))
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert len(pruned) >= 3
    assert all(len(trial.rows) < 10 and not trial.scores for trial in pruned)
    assert found.best.state == "finished" and len(found.best.rows) == 10


def test_the_budget_is_kept_and_a_larger_one_continues(tmp_path):
    file = tmp_path / "ran"
    wanted = plan(epochs=4, settings={"seconds": 0.05, "ran": str(file)})
    part = search.run(wanted, tmp_path / "search", budget_minutes=0.5 / 60)
    assert (
        not part.complete
        and 0.4 < part.seconds < 1.0
        and 0 < sum(trial.has_scores for trial in part.trials) < 6
    )
    again = search.run(
        wanted, tmp_path / "search", budget_minutes=0.5 / 60
    )  # used up: nothing is done
    assert known(again) == known(part)
    whole = search.run(wanted, tmp_path / "search", budget_minutes=1)
    assert whole.complete and [trial.state for trial in whole.trials] == ["finished"] * 6
    assert [trial.scores for trial in whole.trials] == [
        trial.scores for trial in search.run(plan(epochs=4)).trials
    ]


def test_a_trial_stopped_by_the_budget_continues_in_its_worker(tmp_path, importable):
    wanted = plan(objective="objectives:slowly", epochs=20, num_trials=2)
    with Executor(workers=2) as executor:
        part = search.run(wanted, tmp_path, executor=executor, budget_minutes=2.5 / 60)
        stopped = [len(trial.rows) for trial in part.trials]
        assert not part.complete and all(0 < rows < 20 for rows in stopped)
        whole = search.run(wanted, tmp_path, executor=executor, budget_minutes=1)
    assert whole.complete and [trial.scores for trial in whole.trials] == [{"score": 20.0}] * 2
    assert [[row["epoch"] for row in trial.rows] for trial in whole.trials] == [
        list(range(1, 21))
    ] * 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "nowhere:f"}, "`objective` must name an importable function"),
        ({"objective": "objectives:nothing"}, "`objective` must name an importable function"),
        ({"goals": {"score": "best"}}, "`goals` must map numbers to max or min"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(DarkroomError, match=message):
        search.run(plan(**wrong))


def test_where_every_trial_fails_the_search_ends_and_says_why():
    found = search.run(
        plan("grid", space.read({"how": ["raises", "nan"]}), objective="objectives:hostile")
    )
    assert found.complete and {trial.failure["kind"] for trial in found.trials} == {"code", "NaN"}
    with pytest.raises(
        DarkroomError, match="None of the 2 trials has a score. no such layer score is nan"
    ):
        _ = found.best


def test_tables_have_one_row_a_trial_and_one_a_trial_and_epoch():
    found = search.run(plan("halving", epochs=3))
    table, rows = trials.table(found.trials), trials.epoch_table(found.trials)
    assert list(table["trial"]) == [0, 1, 2, 3] and list(table["epochs"]) == [1, 1, 1, 3]
    assert list(rows["trial"]) == [0, 1, 2, 3, 3] and list(rows["epoch"]) == [1, 1, 1, 2, 3]
    assert rows["epoch_score"].iloc[-1] == pytest.approx(found.trials[3].scores["score"])


def test_the_front_holds_what_nothing_beats_in_every_goal():
    wanted = plan(
        "random",
        space.read({"units": [16, 32, 64]}),
        objective="objectives:two",
        goals={"score": "max", "size": "min"},
        num_trials=3,
    )
    found = search.run(wanted)
    assert [trial.values["units"] for trial in trials.pareto_front(found.trials, wanted.goals)] == [
        64,
        32,
        16,
    ]
    worse = [
        *found.trials,
        trials.Trial(99, {}, 1, state="finished", scores={"score": 0.1, "size": 9999.0}),
    ]
    assert 99 not in [trial.number for trial in trials.pareto_front(worse, wanted.goals)]


def test_workers_isolate_trials_and_the_search_continues(tmp_path, importable):
    how = space.read({"how": ["fine", "raises", "nan", "memory", "dies", "dies once"]})
    with Executor(workers=2) as executor:
        found = search.run(
            plan("grid", how, objective="objectives:hostile"),
            tmp_path,
            executor=executor,
            memory_gb=0.3,
        )
    came = {
        trial.values["how"]: (trial.failure or {"kind": trial.state})["kind"]
        for trial in found.trials
    }
    assert came == {
        "fine": "finished",
        "raises": "code",
        "nan": "NaN",
        "memory": "out of memory",
        "dies": "kernel died",
        "dies once": "finished",
    }


def test_the_trainings_that_a_forecast_measures_are_no_runs_of_tensorboard(tmp_path, importable):
    with Executor(workers=1) as executor:
        measured = cost_estimate.measure(plan(objective="objectives:watched"), tmp_path, executor)
    assert measured.epoch_s == 0.25
    assert len(list(tmp_path.rglob("outcome.json"))) == 2 and not list(tmp_path.rglob("events*"))


def test_workers_give_what_this_process_gives_and_are_kept(tmp_path, importable):
    wanted = plan("hyperband", objective=PARABOLA, epochs=4, options={"factor": 2})
    with Executor(workers=2) as executor:
        found = search.run(wanted, tmp_path, executor=executor)
        assert len(processes._idle) <= 2
        seen = {worker.OUTCOME, worker.EPOCHS} <= {
            path.name for path in (tmp_path / "trials" / "0000").iterdir()
        }
    ours = {(json.dumps(t.values), t.epochs): t.scores for t in search.run(wanted).trials}
    assert {(json.dumps(t.values), t.epochs): t.scores for t in found.trials} == ours and seen
    assert all(
        [row["epoch"] for row in t.rows] == sorted({row["epoch"] for row in t.rows})
        for t in found.trials
    )


def test_a_search_moved_aside_for_its_budget_is_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    folder, checkpoints = (
        tmp_path / top / "study" / "tune" / "arm" for top in ("logs", "checkpoints")
    )
    run = runs.Run(folder, checkpoints, {}, {}, "tune", None, False, None)
    wanted = plan(epochs=2, settings={"ran": str(tmp_path / "ran")})

    def begin(key, wanted):
        runs.prepare(folder, key)
        return event_log.resume(run, wanted.key())

    assert begin({"parameters": {"budget": 1}}, wanted) == ""
    first = known(search.run(wanted, folder))
    assert begin({"parameters": {"budget": 1}}, wanted) == ""  # it lies here
    assert "Continuing the search" in begin({"parameters": {"budget": 2}}, wanted)
    assert (
        known(search.run(wanted, folder)) == first and len(ran(tmp_path / "ran")) == 6
    )  # none was computed again
    other = plan(epochs=3, settings={"ran": str(tmp_path / "ran")})
    assert begin({"budget": 3}, other) == "" and not (folder / "journal.jsonl").exists()


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_repeated_proposals_wait_for_the_trial_that_they_repeat(tmp_path, importable, method):
    halves = space.read({"x": {"low": 0.0, "high": 1.0, "step": 0.25}})
    wanted = plan(method, halves, num_trials=4, settings={"ran": str(tmp_path / "ran")})
    expected = known(search.run(wanted))
    states = [state for _, _, _, state, _ in expected]
    assert states.count("finished") == 4 and "copied" in states
    (tmp_path / "ran").unlink()
    slow = tmp_path / "slow"
    with Executor(workers=3) as executor:  # the trials and their repetitions begin together
        found = search.run(wanted, slow, executor=executor)
    assert known(found) == expected
    assert len(ran(tmp_path / "ran")) == 4


def test_a_full_disk_stops_the_search_and_fails_no_trial(tmp_path, importable):
    marker = tmp_path / "full"
    wanted = plan(objective="objectives:full", settings={"full": str(marker)})
    expected = known(search.run(wanted))
    marker.touch()
    with Executor(workers=2) as executor:
        for _ in range(2):
            with pytest.raises(DarkroomError, match="No space left on device. Make room"):
                search.run(wanted, tmp_path / "search", executor=executor)
        marker.unlink()
        assert known(search.run(wanted, tmp_path / "search", executor=executor)) == expected
    assert [state for _, _, _, state, _ in expected] == ["finished"] * 6


def test_an_outcome_that_a_full_disk_does_not_take_is_no_failure_of_the_code(tmp_path):
    given = []
    executor = SimpleNamespace(
        slots=1,
        submit=lambda name, *_, **options: given.append(name),
        poll=lambda timeout_s: [
            SimpleNamespace(name=given[0], value=None, error=OSError(errno.ENOSPC, "No space left"))
        ],
    )
    pool = executors.Pool(executor, lambda number, row: False)
    pool.submit(worker.Job(PARABOLA, 7, {"x": 0.5}, 1, 0, ["score"], str(tmp_path), ""))
    [(number, outcome)] = pool.poll(0)
    assert number == 7 and outcome["failure"]["kind"] == "disk"


def test_an_interrupted_search_calls_its_trials_off_and_the_same_engine_continues(
    tmp_path, importable
):
    wanted = plan(epochs=2, num_trials=4, settings={"seconds": 0.1})
    with Executor(workers=2) as executor:

        def interrupt(told, trial):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            search.run(wanted, tmp_path, executor=executor, on_trial_end=interrupt)
        found = search.run(wanted, tmp_path, executor=executor)
    assert found.complete and [trial.state for trial in found.trials] == ["finished"] * 4
