"""The old name of jobs/benchmark.py; it goes in the next version."""

import runpy
import sys

from rayapp.config.packaged import shipped_folder

if __name__ == "__main__":
    print("jobs/pipeline.py is now jobs/benchmark.py", file=sys.stderr)
    # Not the file beside this one: `ray submit` copies a script alone.
    runpy.run_path(str(shipped_folder("jobs") / "benchmark.py"), run_name="__main__")
