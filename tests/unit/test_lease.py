# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease of one writer: many writers in a world whose time is simulated, and how each of them may end."""

from __future__ import annotations

import heapq
import itertools
import random
import threading

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _lease
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import CommandFailed, Result


class World:
    """A Nextcloud with one value, and the time of all its writers.

    Writers are threads of which one runs at a time; each waits until its time has come.
    """

    def __init__(self, seed=0, slowest=0.3):
        self.now, self.value, self.slowest = 0.0, None, slowest
        self.random = random.Random(seed)
        self.waiting, self.number, self.stopped = [], itertools.count(), threading.Semaphore(0)
        self.commands = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        turn = threading.Event()
        heapq.heappush(self.waiting, (self.now + seconds, next(self.number), turn))
        self.stopped.release()
        assert turn.wait(30)

    def run(self, *writers):
        """Run the functions at the same time until all have ended; raise what one of them raises."""
        errors = []

        def start(writer):
            try:
                self.sleep(self.random.random())
                writer()
            except Exception as error:
                errors.append(error)
            finally:
                self.stopped.release()

        threads = [threading.Thread(target=start, args=(writer,), daemon=True) for writer in writers]
        for thread in threads:
            thread.start()
            assert self.stopped.acquire(timeout=30)
        while self.waiting:
            self.now, _number, turn = heapq.heappop(self.waiting)
            turn.set()
            assert self.stopped.acquire(timeout=30)
        for error in errors:
            raise error

    def occ(self, broken=()):
        return Occ(self, broken)

    def lease(self, **options):
        return _lease.Lease(self.occ(**options), self.clock, self.sleep)


class Occ:
    """occ in that world: a command takes effect somewhere between its start and its end."""

    where = "occ"

    def __init__(self, world, broken):
        self.world, self.broken = world, broken

    def run(self, arguments):
        world = self.world
        name, *rest = arguments
        assert rest[-2:] == ["nextcloud_talk_hpb", "lease"]
        world.commands.append(name)
        if name in self.broken:
            raise CommandFailed(f"occ refused '{name}'.")
        # As much as SLOWER allows for.
        end = world.slowest * world.random.uniform(0.7, 1)
        start = world.random.uniform(0, end)
        world.sleep(start)
        out = ""
        if name == "config:app:get":
            assert rest[0] == "--default-value=free"
            out = f"PHP Warning: something\n{'free' if world.value is None else world.value}\n"
        elif name == "config:app:set":
            world.value = rest[0].removeprefix("--value=")
        else:
            assert name == "config:app:delete"
            world.value = None
        world.sleep(end - start)
        return Result(0, out, "")


@pytest.mark.parametrize("seed", range(60))
def test_never_two_at_a_time_and_everybody_once(seed):
    world = World(seed, slowest=(0.05, 0.3, 2.0)[seed % 3])
    inside, served = [], []

    def writer(name):
        def work():
            lease = world.lease()
            lease.take()
            inside.append(name)
            assert inside == [name], "two writers hold the lease"
            for _step in range(3):
                lease.keep()
                world.sleep(world.random.uniform(0.1, 2))
                assert inside == [name], "two writers hold the lease"
            inside.remove(name)
            served.append(name)
            lease.release()

        return work

    world.run(*(writer(name) for name in range(6)))
    assert sorted(served) == list(range(6))
    assert world.value is None


def test_without_others_it_costs_three_starts_and_a_second():
    world = World()
    lease = world.lease()

    def work():
        before = world.now
        lease.take()
        assert _lease.SETTLE <= world.now - before < _lease.SETTLE + 3 * world.slowest
        lease.keep()
        assert world.commands == ["config:app:get", "config:app:set", "config:app:get"]
        lease.release()

    world.run(work)
    assert world.value is None


def test_a_slow_occ_waits_longer():
    world = World(slowest=5)
    world.run(world.lease().take)
    assert world.now > 3 * 0.7 * 5 + _lease.SLOWER * 0.7 * 5


def test_a_dead_holder_is_succeeded_after_a_minute():
    world = World()
    world.value = "0" * 32
    lease = world.lease()
    world.run(lease.take)
    assert world.value == lease._token
    assert _lease.DEAD < world.now < _lease.DEAD + 5


def test_a_living_holder_is_waited_for_however_long_it_takes():
    world = World()
    order = []

    def slow():
        lease = world.lease()
        lease.take()
        for _step in range(12):
            lease.keep()
            world.sleep(19)
        order.append("slow")
        lease.release()

    def other():
        world.sleep(5)
        lease = world.lease()
        lease.take()
        order.append("other")

    world.run(slow, other)
    assert order == ["slow", "other"]
    assert world.now > 200


def test_who_waits_for_too_long_gives_up():
    world = World()
    world.value = "theirs"

    def noisy():
        for _step in range(40):
            world.value = f"{world.now}"
            world.sleep(10)

    with pytest.raises(_lease.LeaseBusy) as caught:
        world.run(noisy, world.lease().take)
    assert str(caught.value) == (
        "occ was being set up by somebody else for 300 s; "
        "wait until the other runs of this collection have ended, and run this again."
    )


def test_a_holder_who_was_taken_for_dead_stops_and_leaves_the_lease_to_its_successor():
    world = World()

    def stalled():
        lease = world.lease()
        lease.take()
        world.sleep(100)
        with pytest.raises(_lease.LeaseLost, match="takes so long for each command that somebody else began"):
            lease.keep()
        lease.release()
        assert world.value is not None

    def successor():
        world.sleep(5)
        world.lease().take()

    world.run(stalled, successor)


@pytest.mark.parametrize("broken", [(), ("config:app:delete",)])
def test_the_lease_is_given_back_after_an_error_which_is_not_hidden(broken, monkeypatch):
    world = World()
    monkeypatch.setattr(_lease, "Lease", lambda occ: LEASE(occ, world.clock, world.sleep))

    def work():
        with _lease.held(world.occ(broken=broken)) as keep:
            keep()
            raise RuntimeError("the change went wrong")

    with pytest.raises(RuntimeError, match="the change went wrong"):
        world.run(work)
    assert world.commands[-2:] == ["config:app:get", "config:app:delete"]
    assert (world.value is None) is not bool(broken)


LEASE = _lease.Lease


def test_what_occ_refuses_is_an_error():
    world = World()
    with pytest.raises(CommandFailed, match="config:app:set"):
        world.run(world.lease(broken=("config:app:set",)).take)
