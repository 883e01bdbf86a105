"""What storing costs: time spent in keys, checksums, entries and their way to the disk, beside a whole run.

``python benchmarks/store_cost.py FRAMES OUT`` makes a fresh mosaic and prints the share of each part.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from page import add_page_option, page_section
from zemosaic.cli import main
from zemosaic.engine import store, values
from zemosaic.pipelines.corrections import match_frames
from zemosaic.pipelines.measuring import defects, measure_task
from zemosaic.pipelines.patches import ledger as resume
from zemosaic.pipelines.run import keys as run_keys
from zemosaic.pipelines.solving import solve_frames as solving

wall: dict[str, float] = defaultdict(float)
processor: dict[str, float] = defaultdict(float)
inside = threading.local()


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its time added up, but for calls from within another one that is timed."""

    def run(*given: Any, **options: Any) -> Any:
        if getattr(inside, "it", False):
            return function(*given, **options)
        inside.it, begun, spent = True, time.perf_counter(), time.thread_time()
        try:
            return function(*given, **options)
        finally:
            inside.it = False
            wall[name] += time.perf_counter() - begun
            processor[name] += time.thread_time() - spent

    return run


def run() -> int:
    """Build with everything that storing does timed."""
    keys = timed("keys", run_keys.make_key)
    for module in (measure_task, defects, match_frames, solving, resume):
        module.make_key = keys  # type: ignore[attr-defined]
    resume.digest_of = timed("keys", values.digest_of)  # type: ignore[attr-defined]
    store.Store.put = timed("put", store.Store.put)  # type: ignore[method-assign]
    store.Store.get = timed("get", store.Store.get)  # type: ignore[method-assign]
    resume.zlib = type("zlib", (), {"crc32": staticmethod(timed("checksums", zlib.crc32))})  # type: ignore[attr-defined]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames")
    parser.add_argument("out")
    add_page_option(parser)
    given = parser.parse_args()
    begun, spent = time.perf_counter(), time.process_time()
    code = main(["build", given.frames, "-o", given.out, "--fresh"])
    whole, all_spent = time.perf_counter() - begun, time.process_time() - spent
    with page_section(given.page, __file__, "What storing costs", is_table=False):
        print(f"whole run: {whole:.1f} s, {all_spent:.1f} s of processor")
        for name in sorted(wall):
            print(f"{name:<10} {wall[name]:.3f} s summed over threads, {processor[name]:.3f} s of processor")
        share = 100 * sum(processor.values()) / all_spent
        print(f"storing: {share:.1f} % of the processor time")
    return code


if __name__ == "__main__":
    sys.exit(run())
