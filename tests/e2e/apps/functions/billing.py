"""A module of an app that knows nothing of events."""

import asyncio
from concurrent.futures import ProcessPoolExecutor


def charge(amount, currency="EUR"):
    """Charges."""
    if amount < 0:
        raise ValueError("no such amount")
    return {"id": f"ch_{amount}"}


async def charge_later(amount):
    """The same, later."""
    await asyncio.sleep(0)
    return charge(amount)


def in_a_pool(amounts):
    """The same, in another process."""
    with ProcessPoolExecutor(1) as pool:
        return [found["id"] for found in pool.map(charge, amounts)]
