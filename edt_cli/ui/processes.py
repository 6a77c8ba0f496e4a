"""Commands whose output the app shows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple


class Output(NamedTuple):
    """Exit status of a command, and what it wrote."""

    code: int
    out: bytes
    err: bytes


async def output_of(words: Sequence[str]) -> Output:
    """Run a command to its end, and end it if who waits is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        raise
    assert process.returncode is not None
    return Output(process.returncode, out, err)
