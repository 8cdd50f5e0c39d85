"""The clean-up of each night. Every worker keeps the schedule, and there is one message for each tick."""

from datetime import datetime

from redisq import Delivery, Handlers

handlers = Handlers()
KEPT = "-30 days"


@handlers.every("15 3 * * *", queue="cleaning", timezone="Europe/Berlin")
def nightly(tick: datetime) -> dict[str, str]:
    """Make the message of a night."""
    return {"night": tick.date().isoformat()}


@handlers.handler("cleaning", concurrency=1)
def clean(delivery: Delivery) -> int:
    """Remove shipments that nobody asks about any more; give how many."""
    with delivery.state["database"].transaction() as shop:
        return int(shop.execute("DELETE FROM shipments WHERE at < datetime('now', ?)", (KEPT,)).rowcount)
