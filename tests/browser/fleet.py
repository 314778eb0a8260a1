"""A page of as many rows as are wanted."""

from __future__ import annotations

from vmcorefs.fleet.groups import Crash, Place
from vmcorefs.fleet.page import make_page
from vmcorefs.fleet.table import Known

CRASHES = 300
START = 1_790_000_000.0


def fleet_page(count: int, text: str = "") -> bytes:
    """The page of a fleet.

    Args:
        count: Dumps: one each ten minutes, of ``CRASHES`` crashes in turn and 977 hosts.
        text: In every name and title.
    """
    placed = []
    for n in range(count):
        kind = n % CRASHES
        name = f"s3://crashes/web-{n % 977:03}/127.0.0.1-2026-11-30/vmcore.{n}{text}"
        title = f"KASAN: slab-use-after-free Read in frob_{kind:03}_handler{text}"
        crash = Crash(name, title, trusted=True, calls=())
        outcome, reason = ("ok", "") if n % 500 else ("failed", f"empty{text}")
        host, release = f"web-{n % 977:03}.example.net{text}", f"6.{n % 13}.0-{n % 7}-amd64"
        time = START + 600 * n
        known = Known(f"{n:032x}", name, outcome, reason, n, time, host, release, crash)
        placed.append((known, Place(f"g{kind}", title, f"its title{text}", f"s{kind}")))
    return make_page(placed, {known.key: f"reports/{known.key}.html" for known, _ in placed})
