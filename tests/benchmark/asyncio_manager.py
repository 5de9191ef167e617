"""The design that an earlier Python manager was advised to take, for scale: a lock, a timer task that is cancelled and awaited at every
request, a generation check, a semaphore of 10, a pool of 4 threads. Prints CPU and wall time for one request at depth 1 and 10, as JSON."""

import asyncio
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor


class Model:
    def embed(self, texts):
        return [[0.0] for _ in texts]


class Manager:
    def __init__(self, keep_alive, max_leases=10, threads=4):
        self.keep_alive = keep_alive
        self.lock = asyncio.Lock()
        self.semaphore = asyncio.Semaphore(max_leases)
        self.pool = ThreadPoolExecutor(threads)
        self.model = None
        self.generation = 0
        self.uses = 0
        self.timer = None

    async def embed(self, texts):
        async with self.semaphore:
            async with self.lock:
                await self.stop_timer()
                if self.model is None:
                    self.model = Model()
                    self.generation += 1
                model, generation = self.model, self.generation
                self.uses += 1
            try:
                answer = await asyncio.get_running_loop().run_in_executor(self.pool, model.embed, texts)
                if generation != self.generation:
                    raise RuntimeError("the model changed")
                return answer
            finally:
                async with self.lock:
                    self.uses -= 1
                    if self.uses == 0:
                        await self.stop_timer()
                        self.timer = asyncio.create_task(self.unload_when_idle(self.generation))

    async def stop_timer(self):
        if self.timer is not None:
            self.timer.cancel()
            try:
                await self.timer
            except asyncio.CancelledError:
                pass
            self.timer = None

    async def unload_when_idle(self, generation):
        await asyncio.sleep(self.keep_alive)
        if self.uses == 0 and generation == self.generation:
            self.model = None
            self.generation += 1

    async def close(self):
        async with self.lock:
            await self.stop_timer()
        self.pool.shutdown()


async def measure(depth, requests):
    manager = Manager(keep_alive=300)

    async def caller():
        for _ in range(requests // depth):
            await manager.embed(["a cat sat"])

    await manager.embed(["a cat sat"])
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(depth)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await manager.close()
    return {"wall_ns": wall / requests * 1e9, "cpu_ns": cpu / requests * 1e9}


def main():
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(json.dumps({str(depth): asyncio.run(measure(depth, requests)) for depth in (1, 10)}))


if __name__ == "__main__":
    main()
