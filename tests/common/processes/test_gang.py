"""Tests of the connections between the processes of an independent run."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from isoscale.common.processes import gang
from isoscale.common.processes.gang import Gang


def run_as_ranks(count: int, work: Callable[[Gang], Any]) -> list[Any]:
    """Returns what each rank's ``work`` returned; a rank is a thread here."""
    found: list[Any] = [None] * count
    with gang.connections(count) as sockets:

        def rank(number: int) -> None:
            found[number] = work(Gang(sockets[number], rank=number))

        threads = [
            threading.Thread(target=rank, args=(number,), daemon=True) for number in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a rank waits for the others for ever"
    return found


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_rank_gets_the_values_of_all_in_order(count: int) -> None:
    found = run_as_ranks(count, lambda own: own.gather({"rank": own.rank, "pair": (1, 2)}))
    assert found == [[{"rank": rank, "pair": [1, 2]} for rank in range(count)]] * count


def test_no_rank_passes_a_barrier_before_the_last_has_come() -> None:
    arrived: list[int] = []

    def work(own: Gang) -> int:
        if own.rank == 2:
            time.sleep(0.1)
        arrived.append(own.rank)
        own.barrier()
        return len(arrived)

    assert run_as_ranks(3, work) == [3, 3, 3]


def test_a_rank_works_on_until_all_have_finished() -> None:
    slow = threading.Event()

    def work(own: Gang) -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            if steps == 3:  # the slow rank ends its window only after the others worked on
                slow.set()

        if own.rank == 1:
            assert slow.wait(10)
        own.until_all(step)
        own.barrier()
        return steps

    first, _, third = run_as_ranks(3, work)
    assert max(first, third) >= 3


def test_the_end_of_a_rank_is_noticed() -> None:
    with gang.connections(2) as (first, second):
        second[0].close()
        with pytest.raises(ConnectionError, match="another rank of the independent run has ended"):
            Gang(first, rank=0).gather(1)


def test_a_process_takes_the_sockets_that_its_variable_names(monkeypatch) -> None:
    assert not gang.is_connected()
    with gang.connections(2) as (first, second):
        (name, numbers), *_ = gang.variables(first).items()
        monkeypatch.setenv(name, numbers)
        assert gang.is_connected()
        own = Gang.inherited(rank=0)
        assert not gang.is_connected()  # its own children must not think so
        other = Gang(second, rank=1)
        thread = threading.Thread(target=other.gather, args=("b",))
        thread.start()
        assert own.gather("a") == ["a", "b"]
        thread.join()
        first[0].detach()  # ``own`` has closed its number when it ends
