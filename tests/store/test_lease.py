"""A claim that changes hands (`orchestrator.store.lease`): silent, stopped, killed and returning owners."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestrator.store.claims import Claims
from tests.store.commits import killed_at
from tests.store.drivers import (
    FORK,
    everything,
    from_elsewhere,
    in_children,
    killed_driver,
    taken_elsewhere,
)
from tests.support.clock import Clock
from tests.support.waiting import until


def test_who_did_not_watch_does_not_judge(tmp_path: Path) -> None:
    """An observer that slept through the heartbeats, or was stopped together with the other."""
    clock = Clock()
    taken_elsewhere(tmp_path, clock)
    near = Claims(tmp_path, "near", now=clock)
    assert not near.take("c1")
    clock.now_s = 3600.0
    assert not near.take("c1")


def test_a_driver_that_comes_back_while_it_is_taken_over_keeps_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    far, near = taken_elsewhere(tmp_path, clock), Claims(tmp_path, "near", now=clock)
    for second in (0, 30, 59):
        clock.now_s = float(second)
        near.take("c1")
    clock.now_s = 61.0
    create = near._files.create_exclusively

    def come_back_then_create(name: str, content: bytes) -> bool:
        if ".change." in name:
            far._beat()
        return create(name, content)

    monkeypatch.setattr(near._files, "create_exclusively", come_back_then_create)
    assert not near.take("c1")
    assert far.ours("c1")


def test_a_late_driver_does_not_call_a_cell_its_own_while_it_is_taken_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    far, near = taken_elsewhere(tmp_path, clock), Claims(tmp_path, "near", now=clock)
    for second in (0, 30, 60):
        clock.now_s = float(second)
        near._silent(far.driver)
    asked: list[bool] = []
    put = near._files.replace

    def ask_then_replace(name: str, content: bytes) -> None:
        if name == "c1":
            asked.append(far.ours("c1"))
        put(name, content)

    monkeypatch.setattr(near._files, "replace", ask_then_replace)
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

    child = FORK.Process(target=drive, daemon=True)
    child.start()
    sender.close()  # a child that ends without a word is an EOFError then
    try:
        assert receiver.poll(30)
        assert receiver.recv()
        with Claims(tmp_path, "other", stale_s=0.6, heartbeat_s=0.1) as other:
            until(lambda: other.take("c1"), within_s=30)
            assert child.pid is not None
            os.kill(child.pid, signal.SIGCONT)
            assert receiver.poll(30)
            assert not receiver.recv()
            child.join(30)
            assert child.exitcode == 0
            assert other.ours("c1")
    finally:
        child.kill()
        child.join()
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
                clock.now_s = float(second)
                assert not any(claims.take(cell_id) for cell_id in cell_ids)
            together.wait(30)
            clock.now_s = 60.0
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


@pytest.mark.slow
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
