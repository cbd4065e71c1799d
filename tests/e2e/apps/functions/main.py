"""The app: takes the function by name, calls it in every way, and ends."""

import asyncio
from contextlib import suppress

from billing import charge, charge_later, in_a_pool

if __name__ == "__main__":
    charge(1)
    with suppress(ValueError):
        charge(-1)
    asyncio.run(charge_later(2))
    assert in_a_pool([3]) == ["ch_3"]
