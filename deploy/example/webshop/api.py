"""The API: it answers at once, and leaves the work to the worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import Field

from redisq import AsyncRedisQ, Item, MessageConflict, MessageNotFound, Unavailable
from webshop.models import Order, Quote

PATIENCE = 30.0  # seconds for quotes


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the client; a customer does not wait long for a Redis that is away."""
    async with AsyncRedisQ(retry_deadline=0.5) as app.state.mq:
        yield


def client(request: Request) -> AsyncRedisQ:
    """Return the client of the application."""
    mq: AsyncRedisQ = request.app.state.mq
    return mq


Client = Annotated[AsyncRedisQ, Depends(client)]
app = FastAPI(title="Web shop", lifespan=lifespan)


@app.post("/orders", status_code=202)
async def order(order: Order, mq: Client, idempotency_key: Annotated[str | None, Header()] = None) -> dict[str, str]:
    """Take an order. The same one under the same Idempotency-Key is taken once."""
    try:
        return {"number": await mq.queue_message("charge", order, idempotency_key=idempotency_key)}
    except MessageConflict:
        raise HTTPException(409, "this key was used for another order") from None
    except Unavailable:
        raise HTTPException(503, "try again with the same Idempotency-Key") from None


@app.get("/orders/{number}")
async def state(number: str, mq: Client) -> list[dict[str, Any]]:
    """Tell of the steps of an order, as far as they are known."""
    steps: list[dict[str, Any]] = []
    step: str | None = number
    try:
        for queue in ("charge", "pack", "ship"):
            if step is None:
                break
            message = await mq.get_message(queue, step)
            steps.append({"step": queue, "status": message.status, "attempts": message.attempts})
            step = message.result["next"] if message.result else None
    except MessageNotFound:
        if not steps:
            raise HTTPException(404) from None
    return steps


@app.post("/quotes")
async def quotes(orders: Annotated[list[Order], Field(max_length=1_000)], mq: Client) -> dict[str, Any]:
    """Price many orders at once, and gather what comes: those that nobody will price later expire."""
    ids = await mq.queue_messages("quote", [Item(order, expires_in=PATIENCE) for order in orders])
    found = [message async for message in mq.wait_for("quote", ids, PATIENCE)]
    priced = [Quote.model_validate(message.result) for message in found if message.result]
    return {"priced": len(priced), "total": sum((quote.total for quote in priced), Decimal(0))}
