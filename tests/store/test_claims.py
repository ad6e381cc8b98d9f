"""Claims of several drivers on the cells of one study (`orchestrator.store.claims`, `lease`, `files`)."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StorageError
from orchestrator.store import files, lease, process
from orchestrator.store.claims import Claims
from orchestrator.store.files import LocalFiles
from orchestrator.store.process import Process, parse, this_process

FORK = multiprocessing.get_context("fork")
ELSEWHERE = Process("another.host", "f" * 16, 1, 1)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def everything(study: Path) -> list[str]:
    return sorted(str(path.relative_to(study)) for path in study.rglob("*"))


@contextmanager
def from_elsewhere() -> Iterator[None]:
    """What is written inside is by a process that nobody here can see."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (lease, files):
            patch.setattr(module, "this_process", lambda: ELSEWHERE)
        patch.setattr("orchestrator.store.claims.this_process", lambda: ELSEWHERE)
        yield


def in_children(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What ``act(number)`` returned in each of as many processes, which begin and end at one moment."""
    barrier, results = FORK.Barrier(count), FORK.Queue()

    def child(number: int) -> None:
        barrier.wait(30)
        results.put((number, act(number)))
        barrier.wait(30)  # whoever ends is gone, and what it had is taken

    children = [FORK.Process(target=child, args=(number,)) for number in range(count)]
    for one in children:
        one.start()
    found = dict(results.get(timeout=60) for _ in children)
    for one in children:
        one.join(30)
    return [found[number] for number in range(count)]


def killed_driver(study: Path, cell_ids: list[str]) -> int:
    """The pid of a driver that was killed while it had these."""

    def drive(ready: Any) -> None:
        claims = Claims(study, "killed")
        claims.__enter__()
        assert all(claims.take(cell_id) for cell_id in cell_ids)
        ready.send(None)
        time.sleep(60)

    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=drive, args=(sender,))
    child.start()
    receiver.recv()
    child.kill()
    child.join()
    assert child.pid is not None
    return child.pid


def test_a_cell_is_one_drivers(tmp_path: Path) -> None:
    with Claims(tmp_path, "one") as one, Claims(tmp_path, "other") as other:
        assert one.take("c1")
        assert one.take("c1")
        assert not other.take("c1")
        assert (one.ours("c1"), other.ours("c1"), one.ours("c2")) == (True, False, False)
        assert other.take("c2")
        assert one.taken_elsewhere(["c1", "c2", "c3"]).keys() == {"c2"}
        assert other.taken_elsewhere(["c1"]).keys() == {"c1"}
        one.release("c1")
        assert not one.ours("c1")
        assert other.take("c1")


def test_a_holder_says_who_where_and_since_when(tmp_path: Path) -> None:
    with Claims(tmp_path, "slurm job 7") as one, Claims(tmp_path, "other") as other:
        assert other.holder("c1") is None
        one.take("c1")
        for asked in (one, other):
            holder = asked.holder("c1")
            assert holder is not None
            assert (holder.owner, holder.pid, holder.host) == (
                "slurm-job-7",
                os.getpid(),
                os.uname().nodename,
            )
            assert abs(holder.since.timestamp() - time.time()) < 60
            assert (holder.seen_alive, holder.gone) == (True, False)


def test_a_clean_end_leaves_nothing(tmp_path: Path) -> None:
    with Claims(tmp_path, "one") as one:
        for cell_id in ("c1", "c2", "c3"):
            one.take(cell_id)
        one.release("c2")
        with Claims(tmp_path, "other") as other:
            other.take("c2")
        assert "claims/c1" in everything(tmp_path)
        assert "claims/c2" not in everything(tmp_path)
    assert everything(tmp_path) == []


def test_an_end_by_an_exception_gives_everything_back(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Claims(tmp_path, "one") as one:
            one.take("c1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert everything(tmp_path) == []


def test_a_killed_driver_on_this_host_is_gone_at_once_and_cleaned_up_after(tmp_path: Path) -> None:
    killed_driver(tmp_path, ["c1", "c2"])
    (tmp_path / "claims" / "c3").write_bytes((tmp_path / "claims" / "c1").read_bytes())
    other = Claims(tmp_path, "other")
    holder = other.holder("c1")
    assert holder is not None
    assert (holder.gone, holder.seen_alive) == (True, False)
    assert other.taken_elsewhere(["c1", "c2"]) == {}
    assert other.take("c1")
    with other:
        assert other.ours("c1")
        assert everything(tmp_path) == [
            "claims",
            "claims/c1",
            "claims/drivers",
            f"claims/drivers/{other.driver}",
        ]
    assert everything(tmp_path) == []


def test_a_pid_that_was_given_again_is_another_process(tmp_path: Path) -> None:
    me = this_process()
    assert not me.is_gone()
    assert replace(me, start=me.start - 1).is_gone()
    assert replace(me, pid=2**22 + 1).is_gone()
    assert not replace(me, pid=2**22 + 1, machine="another").is_gone()
    assert parse(str(me)) == me
    assert parse("1234@host") is None


def test_a_process_that_has_ended_and_was_not_asked_for_is_gone() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    of_child = replace(this_process(), pid=child, start=process._start(child) or 0)
    assert not of_child.is_gone()
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert of_child.is_gone()
    os.waitpid(child, 0)


def test_a_driver_elsewhere_is_gone_when_its_heartbeat_stood_still_while_watched(tmp_path: Path) -> None:
    clock = Clock()
    with from_elsewhere():
        far = Claims(tmp_path, "far", now=clock)
        assert far.take("c1")
    near = Claims(tmp_path, "near", now=clock)
    for second in range(0, 60, 10):
        clock.now = float(second)
        assert not near.take("c1"), second
    clock.now = 60.0
    assert near.take("c1")
    assert (far.ours("c1"), near.ours("c1")) == (False, True)


def test_a_heartbeat_that_goes_on_keeps_a_claim_however_old_its_clock(tmp_path: Path) -> None:
    clock = Clock()
    with from_elsewhere():
        far = Claims(tmp_path, "far", now=clock)
        far.take("c1")
        heartbeat = tmp_path / "claims" / "drivers" / far.driver
        near = Claims(tmp_path, "near", now=clock)
        for _ in range(20):
            clock.now += 30
            far._beat()
            os.utime(heartbeat, (0, 0))
            assert not near.take("c1")
    holder = near.holder("c1")
    assert holder is not None
    assert (holder.seen_alive, holder.host) == (True, "another.host")


def test_who_did_not_watch_does_not_judge(tmp_path: Path) -> None:
    """An observer that slept through the heartbeats, or was stopped together with the other."""
    clock = Clock()
    with from_elsewhere():
        Claims(tmp_path, "far", now=clock).take("c1")
    near = Claims(tmp_path, "near", now=clock)
    assert not near.take("c1")
    clock.now = 3600.0
    assert not near.take("c1")


def test_a_driver_that_comes_back_while_it_is_taken_over_keeps_its_cell(tmp_path: Path) -> None:
    clock = Clock()
    with from_elsewhere():
        far = Claims(tmp_path, "far", now=clock)
        far.take("c1")
    near = Claims(tmp_path, "near", now=clock)
    for second in (0, 30, 59):
        clock.now = float(second)
        near.take("c1")
    clock.now = 61.0
    create = near._files.create_exclusively

    def come_back_then_create(name: str, content: bytes) -> bool:
        if ".change." in name:
            far._beat()
        return create(name, content)

    near._files.create_exclusively = come_back_then_create  # type: ignore[method-assign]
    assert not near.take("c1")
    assert far.ours("c1")


def test_a_late_driver_does_not_call_a_cell_its_own_while_it_is_taken_from_it(tmp_path: Path) -> None:
    clock = Clock()
    with from_elsewhere():
        far = Claims(tmp_path, "far", now=clock)
        far.take("c1")
    near = Claims(tmp_path, "near", now=clock)
    for second in (0, 30, 60):
        clock.now = float(second)
        near._silent(far.driver)
    asked: list[bool] = []
    put = near._files.replace

    def ask_then_replace(name: str, content: bytes) -> None:
        if name == "c1":
            asked.append(far.ours("c1"))
        put(name, content)

    near._files.replace = ask_then_replace  # type: ignore[method-assign]
    assert near.take("c1")
    assert asked == [False]
    assert not far.ours("c1")


def test_a_stopped_driver_loses_its_claim_and_notices(tmp_path: Path) -> None:
    receiver, sender = FORK.Pipe(duplex=False)

    def drive() -> None:
        with Claims(tmp_path, "stopped", stale_s=0.6, heartbeat_s=0.1) as claims:
            sender.send(claims.take("c1") and claims.ours("c1"))
            os.kill(os.getpid(), signal.SIGSTOP)
            sender.send(claims.ours("c1"))

    child = FORK.Process(target=drive)
    child.start()
    assert receiver.recv()
    with Claims(tmp_path, "other", stale_s=0.6, heartbeat_s=0.1) as other:
        deadline = time.monotonic() + 30
        while not other.take("c1"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGCONT)
        assert not receiver.recv()
        child.join()
        assert other.ours("c1")
    assert everything(tmp_path) == []


@pytest.mark.parametrize("killed", [False, True], ids=["silent elsewhere", "killed here"])
def test_of_many_that_find_an_owner_gone_exactly_one_takes_over(tmp_path: Path, killed: bool) -> None:
    cell_ids = [f"c{number}" for number in range(12)]
    if killed:
        killed_driver(tmp_path, cell_ids)
    else:
        with from_elsewhere():
            far = Claims(tmp_path, "far")
            assert all(far.take(cell_id) for cell_id in cell_ids)

    together = FORK.Barrier(8)

    def drive(number: int) -> list[str]:
        clock = Clock()
        claims = Claims(tmp_path, f"d{number}", now=clock)
        if not killed:
            for second in (0, 30, 59):
                clock.now = float(second)
                assert not any(claims.take(cell_id) for cell_id in cell_ids)
            together.wait(30)
            clock.now = 60.0
        won = [cell_id for cell_id in cell_ids * 5 if claims.take(cell_id)]
        return sorted(set(won))

    won = in_children(8, drive)
    assert sorted(cell_id for ones in won for cell_id in ones) == sorted(cell_ids)
    assert not [name for name in everything(tmp_path) if ".change." in name or name.endswith(".tmp")]


def test_two_drivers_fill_a_study_and_no_cell_twice(tmp_path: Path) -> None:
    cell_ids = [f"c{number:02d}" for number in range(40)]

    def drive(number: int) -> list[str]:
        did: list[str] = []
        with Claims(tmp_path, f"d{number}") as claims:
            for cell_id in cell_ids:
                if claims.take(cell_id) and not (tmp_path / f"{cell_id}.done").exists():
                    assert claims.ours(cell_id)
                    (tmp_path / f"{cell_id}.done").touch()
                    did.append(cell_id)
                claims.release(cell_id)
        return did

    did = in_children(4, drive)
    assert sorted(cell_id for ones in did for cell_id in ones) == cell_ids
    assert not (tmp_path / "claims").exists()


STEPS = ((os, "link"), (Path, "write_bytes"), (Path, "replace"), (Path, "unlink"))


def killed_at(step: int, act: Callable[[], None]) -> int | None:
    """The exit code of a child that ran ``act`` and was killed on entering this step."""

    def child() -> None:
        steps = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def step_then_call(*args: Any, **kwargs: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return step_then_call

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, counted(getattr(owner, name)))
            act()

    one = FORK.Process(target=child)
    one.start()
    one.join(30)
    return one.exitcode


def test_killed_at_any_step_of_a_takeover_the_next_one_gets_the_cell_and_cleans_up(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        study = tmp_path / str(step)
        study.mkdir()
        killed_driver(study, ["c1"])

        def take_over_and_release(study: Path = study) -> None:
            claims = Claims(study, "second")
            assert claims.take("c1")
            claims.release("c1")

        ended = killed_at(step, take_over_and_release)
        with Claims(study, "third") as third:
            assert third.take("c1")
            assert third.ours("c1")
            kept = ["claims", "claims/c1", "claims/drivers", f"claims/drivers/{third.driver}"]
            third._sweep()
            assert everything(study) == kept
        assert everything(study) == []
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert step > 10


def test_a_study_that_was_removed_is_an_error_and_not_made_again(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    with Claims(study, "one") as one:
        one.take("c1")
        shutil.rmtree(study)
        with pytest.raises(StorageError, match=r"results_dir=.*No such file"):
            one.take("c2")
        with pytest.raises(StorageError, match="No such file"):
            one.ours("c1")
    assert not study.exists()


def test_a_study_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("in the way")
    with pytest.raises(StorageError, match="Not a directory"), Claims(tmp_path, "one"):
        pass
    with pytest.raises(StorageError, match="Not a directory"):
        Claims(tmp_path, "one").take("c1")


def test_a_driver_that_cannot_write_its_heartbeat_any_more_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    claims = Claims(tmp_path, "one", now=clock)
    claims.take("c1")

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert claims.ours("c1")
    clock.now = 31.0
    with pytest.raises(StorageError, match="No space left"):
        claims.ours("c1")


def test_a_claim_that_no_one_can_read_is_nobodys_and_gets_stale(tmp_path: Path) -> None:
    clock = Clock()
    claims = Claims(tmp_path, "one", now=clock)
    claims.take("c0")
    (tmp_path / "claims" / "c1").write_bytes(b"")
    for second in (0, 30, 59):
        clock.now = float(second)
        assert not claims.take("c1")
    clock.now = 60.0
    assert claims.take("c1")


def test_a_heartbeat_that_is_too_slow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="heartbeat_s=31"):
        Claims(tmp_path, "one", stale_s=60, heartbeat_s=31)


def test_nfs_may_say_of_a_link_that_it_made_that_it_is_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_then_lose_the_answer(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link_then_lose_the_answer)
    folder = LocalFiles(tmp_path)
    assert folder.create_exclusively("a", b"1")
    monkeypatch.setattr(os, "link", link)
    assert not folder.create_exclusively("a", b"2")
    assert folder.read("a") == b"1"
    assert everything(tmp_path) == ["a"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Claims(tmp_path, "one") as one, Claims(tmp_path, "other") as other:
        assert one.take("c1")
        assert not other.take("c1")
        assert json.loads((tmp_path / "claims" / "c1").read_text())["owner"] == one.driver
    assert everything(tmp_path) == []
