"""The SHA-256 of every package that an installation would take, as constraints for `pip install --require-hashes`.

    python scripts/hashes.py [EXTRA ...] > hashed.txt
    pip install --require-hashes -r hashed.txt && pip install --no-deps .
    python scripts/hashes.py [EXTRA ...] --check .ci/hashes.txt

pip resolves `.[EXTRA,...]` with constraints.txt and reports the file that it would take for this Python on this
machine, with its hash; nothing is installed. A wheel that lies on this machine (torch's, for instance) has the hash of
that file, which need not be the hash of the file on PyPI: make the file where it is used.

`--check` holds what pip would take against such a file, and fails if a version in it would come with other bytes. It
names packages that the file does not have, which were released since. Continuous integration does this before it
installs. Wheels that lie on this machine are not compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WHEELS = ["--only-binary", ":all:"]


def lines(report: dict[str, Any], *, local: bool = True) -> list[str]:
    """One line for each package of pip's report, but for the folder that it was asked about.

    Without `local`, nor for wheels that lie on this machine: nobody else has to have their bytes.
    """
    found = []
    for item in report["install"]:
        download, about = item["download_info"], item["metadata"]
        if "archive_info" not in download:  # a folder: notbugs itself
            continue
        if download["url"].startswith("file:") and not local:
            continue
        digest = download["archive_info"]["hashes"]["sha256"]
        found.append(f"{about['name'].lower().replace('_', '-')}=={about['version']} --hash=sha256:{digest}")
    return sorted(found)


def compared(found: list[str], known: list[str]) -> tuple[list[str], list[str]]:
    """Packages whose version is known with another hash, and those whose version is not known."""
    hashes = {line.partition(" ")[0]: line.split()[1:] for line in known}
    named = [line.split() for line in found]
    other = [name for name, digest in named if name in hashes and digest not in hashes[name]]
    return other, [name for name, _ in named if name not in hashes]


def resolved(extras: list[str]) -> dict[str, Any]:
    """What pip would install for notbugs with these extras."""
    asked = f".[{','.join(extras)}]" if extras else "."
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", *WHEELS]
        command += ["--report", str(report), "-c", "constraints.txt", asked]
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        return json.loads(report.read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA")
    parser.add_argument("--check", type=Path, metavar="FILE")
    given = parser.parse_args()
    found = lines(resolved(given.extras), local=not given.check)
    if not given.check:
        print(*found, sep="\n")
        return 0
    other, unknown = compared(found, given.check.read_text(encoding="utf-8").splitlines())
    print(f"{len(found) - len(other) - len(unknown)} packages have the bytes that {given.check} knows.")
    if unknown:
        print(f"Not in it: {', '.join(unknown)}.")
    if other:
        print(f"Other bytes than it knows: {', '.join(other)}. Nothing is installed.")
    return int(bool(other))


if __name__ == "__main__":
    sys.exit(main())
