"""Ways to let the loop turn, for tests that wait for what has no callback."""
import asyncio


async def turns(count=5):
    """Let the loop turn that many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def turns_until(condition) -> None:
    """Turn the loop until ``condition()``: for what has no callback, as counters."""
    while not condition():
        await asyncio.sleep(0)


async def settle() -> None:
    """Let closing transports finish."""
    await turns(10)
