"""What is measured, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.benchmarks import brokers, calling, gateway, growth, startup
from tests.benchmarks.figures import CROWD, POLICIES, PROCESSES, Samples
from tests.benchmarks.measure import Bench
from tests.benchmarks.peers import BROKERS, OURS, THREADS, Adapter, NotThere, environment
from tests.benchmarks.programs import Candidate
from tests.benchmarks.server import Server

SCENARIOS = {
    "drain": "queue one by one, then one worker process over the full queue; memory before and after",
    "callers": "queue from 64 callers at once, with asyncio",
    "bulk": "queue many in each call",
    "latency": "from queueing to the handler's start on an idle worker, and its commands when idle",
    "brokers": "queueing, drain and latency of NATS JetStream and RabbitMQ, where they are installed",
    "load": "redisq: the same at half the rate that producer and worker reach together",
    "durable": "redisq: queue one by one and drain, with appendfsync everysec and always",
    "crowd": "redisq: queue one by one and drain beside 1,000 idle connections",
    "processes": "redisq: drain with 1, 2, 4 and 8 worker processes",
    "concurrency": "redisq: throughput over callers at once, and over the worker's slots",
    "growth": "redisq: server time and memory per message, over the number that wait",
    "gateway": "redisq: queueing over HTTP beside an endpoint that only parses JSON; what long waits cost",
    "calling": "redisq: what a call that queues one message costs in Python, by its parts",
    "startup": "redisq: processor time of an import, and of --help",
}
POWERS = [2**power for power in range(8)]


@dataclass(frozen=True)
class Plan:
    """How much is measured: messages, rounds, waiting messages at most, seconds to watch an idle worker, long waits."""

    scenarios: Sequence[str]
    messages: int
    rounds: int
    backlog: int
    watch: float
    concurrencies: Sequence[int]
    waits: int


@dataclass
class Run:
    """The measurements of one run, and why some queue is not in it."""

    plan: Plan
    server: Server
    folder: Path
    say: Callable[[str], None]
    home: Path = Path("build/bench/peers")  # of environments
    samples: Samples = field(default_factory=Samples)
    left_out: dict[str, str] = field(default_factory=dict)

    def prepare(self, adapters: Sequence[Adapter]) -> list[Candidate]:
        """Make the environments, and give what can be measured."""
        found = []
        for adapter in adapters:
            try:
                found.append(Candidate(adapter, environment(adapter, self.home)))
            except NotThere as error:
                self._leave_out(adapter, error)
        return found

    def measure(self, candidates: Sequence[Candidate]) -> None:
        """Measure all, round by round, so that what changes on the machine meanwhile meets each of them."""
        bench = Bench(self.server, self.folder, self.samples, self.plan.messages, self.plan.watch)
        for number in range(1, self.plan.rounds + 1):
            for candidate in candidates:
                if candidate.adapter.name not in self.left_out:
                    self.say(f"round {number} of {self.plan.rounds}: {candidate.adapter.title}")
                    self._measure(bench, candidate)
        if "brokers" in self.plan.scenarios:
            self._measure_brokers()
        if "growth" in self.plan.scenarios:
            self.say(f"growth: up to {self.plan.backlog:,} waiting messages")
            growth.measure(self.server, self.samples, self.plan.backlog)
        if "gateway" in self.plan.scenarios:
            plan = self.plan
            self.say(f"gateway: {plan.rounds} rounds, {plan.waits:,} waits")
            gateway.measure(self.server, self.folder, self.samples, plan.messages, plan.rounds, plan.watch, plan.waits)
        if "calling" in self.plan.scenarios:
            self.say("calling")
            calling.measure(self.server, self.samples, self.plan.rounds)
        if "startup" in self.plan.scenarios:
            self.say("startup")
            startup.measure(self.samples, self.plan.rounds)

    def _measure(self, bench: Bench, candidate: Candidate) -> None:
        adapter = candidate.adapter
        try:
            for step in self._steps(bench, adapter.name):
                step(candidate)
        except NotThere as error:
            if not adapter.is_peer:
                raise
            self._leave_out(adapter, error)

    def _measure_brokers(self) -> None:
        """Measure each beside its own server, which does not run while others are measured."""
        for adapter in BROKERS.values():
            try:
                with brokers.running(adapter.name, self.folder) as broker:
                    candidate = Candidate(adapter, environment(adapter, self.home))
                    for number in range(1, self.plan.rounds + 1):
                        self.say(f"round {number} of {self.plan.rounds}: {adapter.title}")
                        brokers.measure(candidate, broker, self.folder, self.samples, self.plan.messages)
            except NotThere as error:
                self._leave_out(adapter, error)

    def _steps(self, bench: Bench, name: str) -> Iterator[Callable[[Candidate], None]]:
        chosen = self.plan.scenarios
        for scenario, step in {
            "drain": bench.drain,
            "callers": bench.callers,
            "bulk": bench.bulk,
            "latency": bench.latency,
        }.items():
            if scenario in chosen:
                yield step
        if name == OURS and "load" in chosen:
            yield bench.load
        if name in (OURS, THREADS) and "durable" in chosen:
            for policy in POLICIES:
                yield partial(bench.durable, policy=policy)
        if name in (OURS, THREADS) and "crowd" in chosen:
            yield partial(bench.crowd, number=CROWD)
        if name == OURS and "processes" in chosen:
            for number in PROCESSES:
                yield partial(bench.processes, number=number)
        if name == OURS and "concurrency" in chosen:
            for number in self.plan.concurrencies:
                yield lambda candidate, number=number: bench.callers(candidate, number)  # type: ignore[misc]
                yield lambda candidate, number=number: bench.slots(candidate, number)  # type: ignore[misc]

    def _leave_out(self, adapter: Adapter, error: NotThere) -> None:
        """Go on without a queue: half of its figures would be no comparison."""
        self.left_out[adapter.name] = str(error)
        self.samples.forget(adapter.name)
        self.say(f"{adapter.title} is left out: {error}")
