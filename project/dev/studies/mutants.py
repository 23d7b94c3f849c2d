"""`make mutants`: changes domain/ in every small way that mutmut knows, and counts the mutants its tests catch."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from dev.wording import counted

PROJECT = Path(__file__).parents[2]
WANTED = 0.97  # share of all mutants that must be caught
CAUGHT = ("killed", "timeout", "caught by type check")
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/limiter/domain/*.py"]
pytest_add_cli_args_test_selection = ["tests/unit/domain"]
pytest_add_cli_args = ["--import-mode=importlib", "-p", "no:cacheprovider"]
use_git_change_detection = false

[tool.pytest.ini_options]
pythonpath = ["src", "."]
asyncio_mode = "auto"
"""
SUMMARY = re.compile(r"^\s*(\S+): (\w[\w ]*)$", re.MULTILINE)


def main() -> int:
    """Print each surviving mutant as a diff; returns 1 if fewer than 97 % are caught."""
    with tempfile.TemporaryDirectory(prefix="rps-limiter-mutants-") as place:
        copy = Path(place)
        shutil.copytree(PROJECT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PROJECT / "tests" / "unit" / "domain", copy / "tests" / "unit" / "domain")
        (copy / "pyproject.toml").write_text(CONFIG)
        # A few Hypothesis examples find most mutants; the full number is for `make test`.
        environment = os.environ | {"FLAP_CASES": "300", "PYTHONPATH": ""}
        mutmut = [sys.executable, "-m", "mutmut"]
        subprocess.run([*mutmut, "run"], cwd=copy, env=environment, check=False)
        listing = subprocess.run(
            [*mutmut, "results", "--all", "true"],
            cwd=copy,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        results = dict(SUMMARY.findall(listing.stdout))
        for mutant, state in sorted(results.items()):
            if state not in CAUGHT:
                print(f"--- {state}: {mutant}", flush=True)
                subprocess.run([*mutmut, "show", mutant], cwd=copy, env=environment, check=False)
    counts = Counter(results.values())
    caught = sum(counts[state] for state in CAUGHT)
    share = caught / max(len(results), 1)
    print(
        f"{counted(len(results), 'mutant')}, {caught} caught ({share:.1%}): "
        + ", ".join(f"{n} {s}" for s, n in counts.items())
    )
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
