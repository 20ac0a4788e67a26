import os
import threading

import pytest

from pyimagesearch.inference.sessions import Sessions, StopRequest, temporary_root


@pytest.fixture
def sessions(tmp_path):
    return Sessions(str(tmp_path))


def make_result(session):
    with session.computation() as folder:
        path = os.path.join(folder, "result.png")
        open(path, "w").close()
    return path


def receive(session, path):
    path.touch()
    session.uploads.add(str(path))
    return str(path)


def test_results_of_two_computations_and_of_two_users_lie_apart(sessions):
    one, other = sessions["one"], sessions["other"]
    paths = [make_result(one), make_result(one), make_result(other)]
    assert len(set(paths)) == 3 and all(map(os.path.exists, paths))
    assert sessions["one"] is one


def test_a_session_that_ends_leaves_only_the_files_of_others(sessions, tmp_path):
    one, other = sessions["one"], sessions["other"]
    own, shared = receive(one, tmp_path / "own.png"), receive(one, tmp_path / "shared.png")
    other.uploads.add(shared)
    gone, kept = make_result(one), make_result(other)
    sessions.end("one")
    assert [os.path.exists(path) for path in (own, gone, shared, kept)] == [False, False, True, True]
    sessions.end("other")
    assert not os.path.exists(shared) and not os.path.exists(kept)
    sessions.end("unknown")


def test_a_session_ends_after_its_computation_has_stopped(sessions):
    session, begun, paths = sessions["one"], threading.Event(), []

    def compute():
        with session.computation() as folder:
            paths.append(folder)
            begun.set()
            while True:
                session.check()

    def run():
        with pytest.raises(StopRequest):
            compute()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    sessions.end("one")
    assert not os.path.exists(paths[0])
    thread.join()
    with pytest.raises(StopRequest):
        make_result(session)


def test_a_stop_holds_until_the_user_asks_again(sessions):
    session = sessions["one"]
    session.check()
    session.stop()
    with pytest.raises(StopRequest):
        make_result(session)
    session.ask()
    assert os.path.exists(make_result(session))


def test_the_folder_of_all_users_is_removed_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyError), temporary_root() as root:
        make_result(Sessions(root)["one"])
        raise KeyError
    assert not list(tmp_path.iterdir())
