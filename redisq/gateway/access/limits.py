"""How much of the gateway one application, one address and one token may have.

An application's rate is shared by all gateways through Redis; the others are each gateway's own, and in memory. A rate
is there for order among those who were let in, so when Redis does not tell, requests pass: those that need Redis will
hear of it anyway. Whether a token is good is another matter, and fails closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from redisq import store
from redisq.errors import RedisQError
from redisq.gateway.requests.errors import TooManyRequests
from redisq.gateway.server.addresses import neighbourhood
from redisq.gateway.settings import GatewaySettings
from redisq.link.aio import AsyncLink
from redisq.settings import Settings
from redisq.store.keys import rate_key

log = logging.getLogger("redisq.gateway.limits")

Clock = Callable[[], float]

_SHARE = 0.1  # seconds' worth of tokens that a gateway takes at once: so many fewer calls than requests
_PATIENCE = 1.0  # seconds for Redis to answer, and seconds of free passage when it does not
_FEW = 1.0  # seconds after which one that has too many under way may try again
_ADDRESSES = 10_000  # of which failures are remembered


class Limits:
    """The limits of one gateway. `clock` is monotonic, in seconds.

    Raises:
        TooManyRequests: in each method but `close`, that the limit is reached.
    """

    def __init__(self, options: GatewaySettings, settings: Settings, clock: Clock = time.monotonic) -> None:
        self._options = options
        self._rates = Rates(options.rate, options.burst, settings, clock)
        self._failures = Failures(options.failures, options.failures_window, clock)
        self._waiting: Counter[tuple[str, str]] = Counter()

    async def admit(self, application: str) -> None:
        """Count a request of an application that has shown a good token."""
        await self._rates.admit(application)

    def check_address(self, address: str) -> None:
        """Refuse an address that has shown too many bad tokens."""
        self._failures.check(neighbourhood(address))

    def failed(self, address: str) -> None:
        """Note that an address has shown a bad token, or a bad secret; one that has shown too many is refused."""
        self.check_address(address)
        self._failures.note(neighbourhood(address))

    @contextmanager
    def waiting(self, application: str, address: str) -> Iterator[None]:
        """Count a long wait, while it lasts, for the application, whatever its tokens are called, and the address.

        Who has no token, at a queue that is open to all, is none and counts by the address alone.
        """
        options, waiting = self._options, self._waiting
        most = {("address", neighbourhood(address)): options.waits_per_address}
        if application:
            most["application", application] = options.waits_per_token
        if any(waiting[who] >= limit for who, limit in most.items()):
            raise TooManyRequests(_FEW, "There are too many long waits under way. Try again later.")
        waiting.update(most.keys())
        try:
            yield
        finally:
            for who in most:
                waiting[who] -= 1
                if not waiting[who]:
                    del waiting[who]

    async def close(self) -> None:
        """Close the connection to Redis."""
        await self._rates.close()


@dataclass(slots=True)
class _Share:
    """What a gateway has of an application's tokens, until when Redis has none, and until when nobody asks Redis."""

    tokens: int = 0
    empty_until: float = 0.0
    open_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Rates:
    """Requests per second of each application, by tokens that gateways take from Redis, a tenth of a second's at once.

    All gateways together let pass `rate` a second and `burst` at once; beyond that each has at most its last share.
    A gateway that ends takes its share along.
    """

    def __init__(self, rate: float, burst: int, settings: Settings, clock: Clock) -> None:
        self._rate = rate
        self._burst = burst or max(1, round(rate))
        self._share = max(1, min(self._burst, int(rate * _SHARE)))
        self._settings = settings
        self._link = AsyncLink(settings)
        self._clock = clock
        self._shares: dict[str, _Share] = {}  # of applications that are registered, so not of any number

    async def admit(self, application: str) -> None:
        """Take a token, of this gateway's or of Redis'; those who come meanwhile wait for the same answer."""
        if not self._rate:
            return
        share = self._shares.get(application)
        if share is None:
            share = self._shares[application] = _Share()
        if not share.tokens:
            async with share.lock:
                if not share.tokens:
                    await self._fill(share, application)
                share.tokens = max(0, share.tokens - 1)
                return
        share.tokens -= 1

    async def _fill(self, share: _Share, application: str) -> None:
        now = self._clock()
        if now < share.open_until:
            return
        if now < share.empty_until:
            raise TooManyRequests(share.empty_until - now)
        call = store.rates.take(
            rate_key(self._settings.namespace, application), 1 / self._rate, self._burst, self._share
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                share.tokens, wait = await self._link.call(call, waited=self._settings.retry_deadline)  # one try
        except (RedisQError, TimeoutError) as error:
            log.warning("requests pass uncounted, as Redis does not tell: %s", error or "it does not answer")
            share.open_until = self._clock() + _PATIENCE
            return
        if not share.tokens:
            share.empty_until = self._clock() + wait
            raise TooManyRequests(wait)

    async def close(self) -> None:
        """Close the connection to Redis."""
        await self._link.close()


class Failures:
    """Counts what failed per address, in windows that begin with the first failure; nothing that succeeds resets it.

    It remembers the last addresses only: whoever has more than that has no need to come again from one.
    """

    def __init__(self, most: int, window: float, clock: Clock, addresses: int = _ADDRESSES) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        self._addresses = addresses
        self._seen: dict[str, tuple[float, int]] = {}  # address -> end of its window, failures; in order of the ends

    def check(self, address: str) -> None:
        """Refuse an address that has failed too often, until its window has passed."""
        if not self._seen:
            return
        end, count = self._seen.get(address, (0.0, 0))
        if count >= self._most and (left := end - self._clock()) > 0:
            raise TooManyRequests(left, "There were too many bad tokens from this address. Try again later.")

    def note(self, address: str) -> None:
        """Count a failure."""
        now = self._clock()
        end, count = self._seen.get(address, (0.0, 0))
        if end > now:
            self._seen[address] = (end, count + 1)
            return
        self._seen.pop(address, None)  # so that it goes to the end
        self._forget(now)
        self._seen[address] = (now + self._window, 1)

    def _forget(self, now: float) -> None:
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest][0] > now and len(self._seen) < self._addresses:
                return
            del self._seen[oldest]
