"""The SHA-256 of every package that an installation would take, as constraints for `pip install --require-hashes`.

    python scripts/hashes.py [EXTRA ...] > hashed.txt
    pip install --require-hashes -r hashed.txt && pip install --no-deps .

pip resolves `.[EXTRA,...]` with constraints.txt and reports the file that it would take for this Python on this
machine, with its hash; nothing is installed. A wheel that lies on this machine (torch's, for instance) has the hash of
that file, which need not be the hash of the file on PyPI: make the file where it is used.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WHEELS = ["--only-binary", ":all:"]


def lines(report: dict[str, Any]) -> list[str]:
    """One line for each package of pip's report, but for the folder that it was asked about."""
    found = []
    for item in report["install"]:
        download, about = item["download_info"], item["metadata"]
        if "archive_info" not in download:  # a folder: notbugs itself
            continue
        digest = download["archive_info"]["hashes"]["sha256"]
        found.append(f"{about['name'].lower().replace('_', '-')}=={about['version']} --hash=sha256:{digest}")
    return sorted(found)


def resolved(extras: list[str]) -> dict[str, Any]:
    """What pip would install for notbugs with these extras."""
    asked = f".[{','.join(extras)}]" if extras else "."
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", *WHEELS]
        command += ["--report", str(report), "-c", "constraints.txt", asked]
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        return json.loads(report.read_text(encoding="utf-8"))


if __name__ == "__main__":
    print(*lines(resolved(sys.argv[1:])), sep="\n")
