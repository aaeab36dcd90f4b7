"""A fleet as a queue: jobs become due at random, a pass of the scheduler sends them, threads and cores do them."""

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """cores: that all parts share. threads: of all workers. interval: seconds between two passes of the scheduler.

    service: seconds of CPU of one job of each kind, in all parts together.
    rest: seconds that a job waits for what is no CPU: the disk, the network, the provider.
    """

    cores: int
    threads: int
    interval: float
    service: Mapping[str, float]
    rest: float = 0.0


def simulate(machine: Machine, jobs: Sequence[tuple[float, str]], phase: float = 0.0, seed: int = 1) -> list[float]:
    """Return for each job, in the order in which they are due, how long after that it is done.

    A job waits for the next pass, then for a free thread, then for a core. The time of service varies by a tenth.
    """
    rng = random.Random(seed)
    threads, cores = [0.0] * machine.threads, [0.0] * machine.cores
    late = []
    for due, kind in sorted(jobs):
        passes = int(max(due - phase, 0.0) / machine.interval) + 1
        sent = phase + passes * machine.interval
        begun = max(sent, heapq.heappop(threads))
        worked = max(begun, heapq.heappop(cores)) + machine.service[kind] * rng.uniform(0.9, 1.1)
        heapq.heappush(cores, worked)
        heapq.heappush(threads, worked + machine.rest)
        late.append(worked + machine.rest - due)
    return late


def utilisation(machine: Machine, rates: Mapping[str, float]) -> float:
    """Return the share of all cores that these jobs a second use; from 1 on what is due waits ever longer."""
    return sum(rate * machine.service[kind] for kind, rate in rates.items()) / machine.cores
