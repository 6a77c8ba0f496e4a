"""Serve a GGUF on loopback by llama.cpp, as OpenAI's API (pip install xllamacpp).

python tests/benchmarks/serve_gguf.py SmolLM2-135M-Instruct.Q4_1.gguf --port 8101 --slots 8
"""

from __future__ import annotations

import argparse
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    for name, default in (("--port", 8101), ("--slots", 4), ("--context", 4096), ("--threads", 1)):
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    import xllamacpp  # type: ignore[import-not-found]

    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.port = given.file, given.port
    parameters.hostnames = ["127.0.0.1"]
    parameters.n_parallel, parameters.n_ctx = given.slots, given.context * given.slots
    for processor in (parameters.cpuparams, parameters.cpuparams_batch):
        processor.n_threads, processor.poll = given.threads, 0
    server = xllamacpp.Server(parameters)
    sys.stdout.write(f"{server.listening_address}/v1\n")
    sys.stdout.flush()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
