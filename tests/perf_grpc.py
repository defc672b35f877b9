"""A client of the protocol's gRPC, for `tests/perf_model_server.py`: prints what it found."""

import asyncio
import json
import sys
import time

import numpy as np
import tritonclient.grpc.aio as client

IN_FLIGHT = 32


async def main(address: str, seconds: float) -> dict[str, float]:
    """Calls a second, and how many, with 32 callers, each with one call at a time."""
    given = client.InferInput("images", [1, 64], "FP32")
    given.set_data_from_numpy(np.ones((1, 64), np.float32))
    done = 0
    async with client.InferenceServerClient(address) as server:
        if not await server.is_server_ready(client_timeout=3):
            sys.exit(1)
        await server.infer("model", [given])
        end = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < end:
                await server.infer("model", [given])
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        return {"rate": done / (time.perf_counter() - began), "requests": done}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], float(sys.argv[2])))))
