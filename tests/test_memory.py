"""Memory that was freed is used again, and not asked for anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from notbugs.memory import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
for _ in range(8):
    b"x" * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(*words: str, **more: str) -> int:
    """Pages that the system had to give for eight blocks of 64 MiB, one after the other."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", SCRIPT, *words]
    return int(subprocess.run(command, env=bare | more, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, whose memory is left alone")
def test_memory_is_kept_unless_the_environment_says_otherwise():
    of_one = 2**26 // os.sysconf("SC_PAGESIZE")
    assert faults() > 8 * of_one
    assert faults("keep") < 3 * of_one
    assert faults("keep", MALLOC_MMAP_THRESHOLD_="131072") > 8 * of_one
