"""The old name of jobs/benchmark.py; it goes in the next version."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    print("jobs/pipeline.py is now jobs/benchmark.py", file=sys.stderr)
    runpy.run_path(str(Path(__file__).with_name("benchmark.py")), run_name="__main__")
