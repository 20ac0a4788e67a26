"""Tasks on a real Ray cluster of two nodes on this machine, with workers that only wait or end."""

import contextlib
import os
import pathlib
import signal
import sys
import time

import pytest

from pyimagesearch import workers
from pyimagesearch.errors import UserError

ray = pytest.importorskip("ray", reason="needs Ray, which is not installed")


class Recorder:
    """Notes in files which tasks it begins and ends. A task is (name, seconds, folder).

    The task "meeting" waits until a task has begun on another node.
    """

    def __init__(self, cores):
        self.cores = cores

    def start(self):
        return "in this way"

    def run(self, task, attempt):
        name, seconds, folder = task
        node = ray.get_runtime_context().get_node_id()
        aside = os.path.join(folder, f"aside-{name}-{attempt}")
        with open(aside, "w") as file:
            file.write(f"{os.getpid()} {node}")
        os.replace(aside, os.path.join(folder, f"begun-{name}-{attempt}"))
        if name == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "meeting":
            wait_until(lambda: len(nodes(folder)) == 2)
        time.sleep(seconds)
        with open(os.path.join(folder, f"ended-{name}"), "a") as file:
            file.write("x")
        return name, node, self.cores


class Individual(Recorder):
    def start(self):
        return f"in the way of {os.getpid()}"


class Unwilling(Recorder):
    def start(self):
        raise UserError("model: no such model; make it")


class Dying(Recorder):
    def start(self):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster with a node of one core, which this process belongs to."""
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield nodes
    nodes.shutdown()


@pytest.fixture
def second_node(two_nodes):
    """Another node of one core."""
    node = two_nodes.add_node(num_cpus=1)
    yield node
    if node in two_nodes.worker_nodes:
        two_nodes.remove_node(node)


@pytest.fixture
def connected(two_nodes, second_node):
    with workers.connected(two_nodes.address) as module:
        yield module


def tasks(folder, count, seconds):
    return [(f"task{number}", seconds, str(folder)) for number in range(count)]


def meeting(folder):
    return ("meeting", 0, str(folder))


def nodes(folder):
    """Return the nodes on which tasks have begun."""
    return {path.read_text().split()[1] for path in pathlib.Path(folder).glob("begun-*")}


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.01)


def running_tasks(folder):
    return [path for path in folder.glob("begun-*") if path.name[6:-2] not in ended(folder)]


def begun(folder, name):
    return sorted(path.name for path in folder.glob(f"begun-{name}-*"))


def ended(folder):
    """Return the names of the tasks that ended.

    A task runs again if its worker is killed between its end and the report of it.
    """
    return {path.name.removeprefix("ended-") for path in folder.glob("ended-*")}


def test_each_task_is_done_once_and_on_both_nodes(connected, tmp_path):
    work = [meeting(tmp_path), *tasks(tmp_path, 12, 0.1)]
    outcomes = list(workers.Pool(connected, Recorder).run(work, 13))
    assert ended(tmp_path) == {"meeting", *(f"task{number}" for number in range(12))}
    assert {path.read_text() for path in tmp_path.glob("ended-*")} == {"x"}, "a task was done twice"
    assert sorted(outcome.task for outcome in outcomes) == sorted(work)
    assert all(outcome.attempts == 1 and not outcome.given_up for outcome in outcomes)
    assert len({node for _, node, _ in (outcome.value for outcome in outcomes)}) == 2
    assert {cores for _, _, cores in (outcome.value for outcome in outcomes)} == {1}


def test_no_more_tasks_are_taken_than_workers_hold(connected, tmp_path):
    taken = 0

    def counted():
        nonlocal taken
        for task in tasks(tmp_path, 40, 0):
            taken += 1
            yield task

    done = 0
    for _ in workers.Pool(connected, Recorder).run(counted(), 40):
        done += 1
        assert taken - done <= 2 * 3  # one in work and one that waits for each of two workers, and those just ended
    assert done == 40


def test_tasks_of_a_killed_worker_run_again(connected, tmp_path):
    outcomes = []
    for outcome in workers.Pool(connected, Recorder).run(tasks(tmp_path, 10, 0.5), 10):
        if not outcomes:
            while not (running := running_tasks(tmp_path)):
                time.sleep(0.01)
            pid, _ = running[0].read_text().split()
            os.kill(int(pid), signal.SIGKILL)
        outcomes.append(outcome)
    assert ended(tmp_path) == {f"task{number}" for number in range(10)} and len(outcomes) == 10
    assert max(outcome.attempts for outcome in outcomes) == 2 and not any(outcome.given_up for outcome in outcomes)


def test_tasks_of_a_removed_node_run_elsewhere(two_nodes, second_node, connected, tmp_path):
    outcomes, work = [], [meeting(tmp_path), *tasks(tmp_path, 12, 0.3)]
    for outcome in workers.Pool(connected, Recorder).run(work, 13):
        outcomes.append(outcome)
        on_second = [outcome for outcome in outcomes if outcome.value[1] == second_node.node_id]
        if on_second and second_node in two_nodes.worker_nodes:
            two_nodes.remove_node(second_node, allow_graceful=False)
            removed_after = len(outcomes)
    names = {name for name, *_ in work}
    assert {outcome.value[0] for outcome in outcomes} == ended(tmp_path) == names
    assert len(outcomes) == 13 > removed_after


def test_a_new_node_takes_part(two_nodes, tmp_path):
    new, (first, *others) = None, tasks(tmp_path, 3, 0)
    with workers.connected(two_nodes.address) as module:
        for _ in workers.Pool(module, Recorder).run([first, meeting(tmp_path), *others], 4):
            new = new or two_nodes.add_node(num_cpus=1)
    two_nodes.remove_node(new)
    assert len(nodes(tmp_path)) == 2


def test_a_task_that_ends_its_worker_three_times_is_given_up_and_no_other(connected, tmp_path):
    work = tasks(tmp_path, 8, 0.1)
    work.insert(3, ("poison", 0, str(tmp_path)))
    outcomes = list(workers.Pool(connected, Recorder).run(work, 9))
    (given_up,) = (outcome for outcome in outcomes if outcome.given_up)
    assert given_up.task[0] == "poison" and given_up.value is None and given_up.attempts == 3
    assert begun(tmp_path, "poison") == [f"begun-poison-{attempt}" for attempt in range(3)]
    assert ended(tmp_path) == {f"task{number}" for number in range(8)} and len(outcomes) == 9


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        (Individual, "the nodes compute in different ways.*choose the runtime"),
        (Unwilling, "^model: no such model; make it$"),
        (Dying, "workers end when they start"),
    ],
)
def test_workers_that_cannot_compute_are_told(connected, tmp_path, worker, message):
    with pytest.raises(UserError, match=message):
        list(workers.Pool(connected, worker).run([meeting(tmp_path), *tasks(tmp_path, 8, 0.1)], 9))


def test_no_worker_is_left_when_the_tasks_are_not_all_taken(connected, tmp_path):
    with contextlib.closing(workers.Pool(connected, Recorder).run(tasks(tmp_path, 8, 0.2), 8)) as outcomes:
        next(outcomes)
        pids = {int(path.read_text().split()[0]) for path in tmp_path.glob("begun-*")}
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, "a worker is left"
        time.sleep(0.05)


def test_a_wrong_address_is_told():
    with pytest.raises(UserError, match="^127.0.0.1:9: no Ray cluster answers"), workers.connected("127.0.0.1:9"):
        pass


def test_without_ray_its_requirements_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="pip install -r requirements-cluster.txt"), workers.connected("auto"):
        pass
