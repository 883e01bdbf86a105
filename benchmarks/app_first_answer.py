"""How soon the app's server gives its first page, and how much memory it holds then.

    python benchmarks/app_first_answer.py [--runs 5] [--page docs/measured/products.md]

``zemosaic serve`` is started in an empty home, and its link is asked for. "processor" is what the
server has computed by then: it tells the same on a busy machine, where the clock does not.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import psutil

from page import add_page_option, page_section


def measure() -> tuple[float, float, float]:
    """Seconds by the clock and by the processor until the first page is there, and MB in memory."""
    with tempfile.TemporaryDirectory() as home:
        begun = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "zemosaic", "serve"], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home},
        )  # fmt: skip
        assert server.stderr
        link = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
        # The link's token becomes a cookie, which the page then asks with.
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        urllib.request.build_opener(cookies).open(link).read()
        seconds, process = time.perf_counter() - begun, psutil.Process(server.pid)
        used, held = process.cpu_times(), process.memory_info().rss
        server.terminate()
        server.wait()
        server.stderr.close()
    return seconds, used.user + used.system, held / 2**20


def main() -> None:
    """Print the middle of a few runs, and the load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    add_page_option(parser)
    args = parser.parse_args()
    about = " ".join(__doc__.split("\n\n")[2].split())
    with page_section(args.page, __file__, "The first page of the app", about, is_table=False):
        found = sorted(measure() for _ in range(args.runs))
        seconds, processor, held_mb = found[len(found) // 2]
        spread = f"{found[0][0]:.2f} to {found[-1][0]:.2f}"
        print(f"first page after {seconds:.2f} s ({spread}), {processor:.2f} s of processor")
        print(f"{held_mb:.0f} MB held; {os.getloadavg()[0]:.1f} tasks at work on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
