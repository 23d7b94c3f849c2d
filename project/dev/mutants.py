"""`make mutants`: breaks domain/ in every small way mutmut knows, and counts how many its tests notice."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).parents[1]
WANTED = 0.95  # of all mutants
CAUGHT = ("killed", "timeout", "caught by type check")
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/limiter/domain/*.py"]
pytest_add_cli_args_test_selection = ["tests/domain"]
pytest_add_cli_args = ["--import-mode=importlib", "-p", "no:cacheprovider"]
use_git_change_detection = false

[tool.pytest.ini_options]
pythonpath = ["src", "."]
asyncio_mode = "auto"
"""
SUMMARY = re.compile(r"^\s*(\S+): (\w[\w ]*)$", re.MULTILINE)


def main() -> int:
    """Returns 1 if fewer than 95 % are caught; prints each survivor as a difference."""
    with tempfile.TemporaryDirectory(prefix="rps-limiter-mutants-") as place:
        house = Path(place)
        shutil.copytree(PROJECT / "src", house / "src", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PROJECT / "tests" / "domain", house / "tests" / "domain")
        (house / "pyproject.toml").write_text(CONFIG)
        # Hypothesis finds most mutants by few examples; the long forms are for `make test`.
        environment = os.environ | {"FLAP_CASES": "300", "PYTHONPATH": ""}
        mutmut = [sys.executable, "-m", "mutmut"]
        subprocess.run([*mutmut, "run"], cwd=house, env=environment, check=False)
        told = subprocess.run(
            [*mutmut, "results", "--all", "true"],
            cwd=house,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        results = dict(SUMMARY.findall(told.stdout))
        for mutant, state in sorted(results.items()):
            if state not in CAUGHT:
                print(f"--- {state}: {mutant}", flush=True)
                subprocess.run([*mutmut, "show", mutant], cwd=house, env=environment, check=False)
    counts = Counter(results.values())
    caught = sum(counts[state] for state in CAUGHT)
    share = caught / max(len(results), 1)
    print(f"{len(results)} mutants, {caught} caught ({share:.1%}): " + ", ".join(f"{n} {s}" for s, n in counts.items()))
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
