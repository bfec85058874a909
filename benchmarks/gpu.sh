#!/usr/bin/env bash
# All that only a GPU shows, in one command of at most nine minutes: see gpu.py beside it.
cd "$(dirname "$0")/.." || exit
python=.venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" -m benchmarks.gpu "$@"
