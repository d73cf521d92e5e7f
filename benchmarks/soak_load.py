"""A steady load for the soak, in a process of its own: requests at even times, the time of each token kept.

usage: soak_load.py URL RATE SECONDS PROMPT OUTPUT FILE
Writes one JSON line a request: when it was sent (Unix time), its tokens' times after that, its error.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path

import httpx

from rocscope.traffic.requests import Asker

MOST_IN_FLIGHT = 64


async def main(*given: str) -> None:
    url, rate, seconds = given[0], float(given[1]), float(given[2])
    prompt, output, path = int(given[3]), int(given[4]), Path(given[5])
    chance = random.Random(0)
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        asker = Asker(client, "tiny", prompt=prompt, output=output)
        await asker.probe()
        places, tasks = asyncio.Semaphore(MOST_IN_FLIGHT), set()
        with path.open("w", encoding="utf-8") as out:

            async def one() -> None:
                async with places:
                    sent = time.time()
                    timing = await asker.ask(random.Random(chance.getrandbits(64)))
                times, at = [], timing.first_s
                for gap in (0.0, *timing.gaps_s) if at is not None else ():
                    at += gap
                    times.append(round(at, 5))
                out.write(json.dumps({"sent": sent, "tokens": times, "error": timing.error}) + "\n")
                out.flush()

            due, end = time.monotonic(), time.monotonic() + seconds
            while due < end:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due += 1 / rate
            await asyncio.gather(*tasks)


asyncio.run(main(*sys.argv[1:]))
