"""Several workers on one study, some of them killed: every trial ends exactly once, and nothing that was done is lost.

What ended how often is counted by others than the code that is tested: from the lines of the journal, and by a trigger
in the database.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest

from sccengine.exploration import Plan, Space, Study
from tests.exploration_worker import accuracy, cost, train
from tests.postgres_server import server

TRIALS, EPOCHS = 16, 8
PLAN = Plan(Space(), sampler="random", trials=TRIALS, epochs=EPOCHS, early=False)
ENDS = {"finished", "stopped", "rejected", "failed"}

AUDIT = """
CREATE TABLE audit (number integer, state text);
CREATE FUNCTION note() RETURNS trigger AS $$
BEGIN INSERT INTO audit VALUES (NEW.number, NEW.record->>'state'); RETURN NEW; END $$ LANGUAGE plpgsql;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON sccengine_trials FOR EACH ROW EXECUTE FUNCTION note();
"""


@pytest.fixture(scope="module")
def database():
    with server() as url:
        yield url


def start(out, *where):
    return subprocess.Popen([sys.executable, "-m", "tests.exploration_worker", str(out), *where])


def wait_for(condition, processes):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline and all(process.poll() in (None, 0) for process in processes)
        time.sleep(0.005)


def kill_two_of_four(study, where=()):
    """Four workers run the study to its end; two are killed while they train. Gives {pid of a victim: its trial}."""
    processes = [start(study.out, *where) for _ in range(4)]
    victims = {}
    try:
        for _ in range(2):

            def at_work(process):
                """The number of the trial in whose middle the process is, or None."""
                for trial in study.trials():
                    if trial.state == "running" and trial.worker.split("-")[-2] == str(process.pid):
                        kept, begun = study.folder(trial) / "epochs.json", study.folder(trial) / "begun"
                        mine = begun.exists() and f"{process.pid} " in begun.read_text()
                        if mine and kept.exists() and 1 <= len(json.loads(kept.read_text())["seconds"]) < EPOCHS - 3:
                            return trial.number
                return None

            def strike():
                for process in processes:
                    if process.pid not in victims and (number := at_work(process)) is not None:
                        process.send_signal(signal.SIGKILL)
                        process.wait()
                        victims[process.pid] = number
                        return True
                return False

            wait_for(strike, [p for p in processes if p.pid not in victims])
        for process in processes:
            assert process.wait(timeout=120) == (-signal.SIGKILL if process.pid in victims else 0)
    finally:
        for process in processes:
            process.kill()
    return victims


def check(study, victims):
    trials = study.trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert len({trial.design for trial in trials}) == TRIALS
    for trial in trials:
        assert trial.state == "finished" and trial.epochs == EPOCHS and trial.seed == PLAN.seed
        assert trial.curves == (tuple(accuracy(trial.design, epoch) for epoch in range(EPOCHS)),)
        assert trial.values == {**cost(trial.design), "accuracy": trial.curves[0][-1]}
        lines = (study.folder(trial) / "begun").read_text().splitlines()
        workers, done = zip(*(map(int, line.split()) for line in lines))
        # Begun once, and taken up once for each time that its worker was killed, where that left it.
        assert Counter(workers[:-1]) == Counter(pid for pid, number in victims.items() if number == trial.number)
        assert workers[-1] not in victims
        assert done[0] == 0 and all(0 < epochs < EPOCHS for epochs in done[1:]) and list(done) == sorted(done)


def test_four_workers_two_killed_on_a_journal(tmp_path):
    study = Study(tmp_path / "study")
    study.begin(PLAN)
    victims = kill_two_of_four(study)
    records = [json.loads(line) for line in study.store.journal.read_text().splitlines()]
    ends = Counter(record["number"] for record in records if record["state"] in ENDS)
    assert ends == {number: 1 for number in range(TRIALS)}
    check(Study(tmp_path / "study"), victims)
    assert Study(tmp_path / "study").trials() == study.trials()


def test_four_workers_two_killed_on_postgres(tmp_path, database):
    import psycopg

    where = (database, "killed")
    study = Study(tmp_path, *where)
    study.begin(PLAN)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(AUDIT)
        victims = kill_two_of_four(study, where)
        rows = connection.execute("SELECT number, state FROM audit").fetchall()
    assert Counter(number for number, state in rows if state in ENDS) == {number: 1 for number in range(TRIALS)}
    check(Study(tmp_path, *where), victims)


def test_a_study_in_a_database_is_found_again_by_its_folder_and_does_not_meet_others(tmp_path, database):
    study = Study(tmp_path / "a", database, "one")
    study.begin(PLAN)
    plan = Plan(Space(widths=(1.0,)), sampler="grid", trials=2, epochs=2)
    other = Study(tmp_path / "b", database, "two")
    other.begin(plan)
    other.run(train=train, cost=cost)
    again = Study(tmp_path / "b")
    assert (again.name, again.plan) == ("two", plan)
    assert [trial.state for trial in again.trials()] == ["finished"] * 2
    assert Study(tmp_path / "a").trials() == []


def test_a_lost_connection_is_made_anew(tmp_path, database):
    import psycopg

    study = Study(tmp_path, database, "lost")
    study.begin(Plan(Space(), sampler="random", trials=1, epochs=3))

    def cut_off(plan, trial, folder, watch):
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'"
            )
        return train(plan, trial, folder, watch)

    study.run(train=cut_off, cost=cost)
    assert [trial.state for trial in study.trials()] == ["finished"]


@pytest.mark.parametrize("kind", ["journal", "postgres"])
def test_of_two_that_begin_a_study_the_first_decides(tmp_path, kind, request):
    where = () if kind == "journal" else (request.getfixturevalue("database"), "twice")
    first, second = Study(tmp_path, *where), Study(tmp_path, *where)
    first.begin(PLAN)
    assert not second.store.begin(replace(PLAN, trials=3).as_dict(), None)
    assert second.plan == PLAN
    second.begin(replace(PLAN, trials=3))
    assert Study(tmp_path, *where).plan.trials == 3


def test_an_interrupted_trial_waits_and_is_taken_up_first(tmp_path):
    study = Study(tmp_path)
    study.begin(replace(PLAN, trials=3))

    def interrupted(plan, trial, folder, watch):
        def after_two(history):
            watch(history)
            if len(history["seconds"]) == 2:
                raise KeyboardInterrupt

        return train(plan, trial, folder, after_two)

    with pytest.raises(KeyboardInterrupt):
        study.run(train=interrupted, cost=cost)
    (trial,) = study.trials()
    assert (trial.state, trial.worker, trial.epochs) == ("waiting", None, 2)
    study.run(train=train, cost=cost)
    assert (study.folder(trial) / "begun").read_text().split()[1::2] == ["0", "2"]
    assert [one.state for one in study.trials()] == ["finished"] * 3


def test_a_worker_taken_for_dead_does_not_end_a_trial_that_another_has(tmp_path):
    study = Study(tmp_path)
    study.begin(Plan(Space(), sampler="random", trials=1, epochs=3))

    def stolen(plan, trial, folder, watch):
        def steal(table):
            table.put(table[trial.number].changed(state="finished", worker="another", values={"accuracy": 0.5}))

        history = train(plan, trial, folder, watch)
        Study(tmp_path).store.update(steal)
        return history

    told = []
    study.run(train=stolen, cost=cost, on_trial=told.append)
    (trial,) = study.trials()
    assert (trial.worker, trial.values) == ("another", {"accuracy": 0.5})
    assert not any(one.over for one in told)


def test_a_worker_on_another_machine_is_dead_when_it_has_been_silent(tmp_path):
    study = Study(tmp_path)
    study.begin(PLAN)
    study.store.update(lambda table: None)
    with study.store.enlist() as name:
        assert study.store.alive(name)
    assert not study.store.alive(name)
    far = tmp_path / "workers" / "elsewhere-4711-abcd"
    far.touch()
    assert study.store.alive(far.name)
    os.utime(far, (time.time() - 300,) * 2)
    assert not study.store.alive(far.name)
