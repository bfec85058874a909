"""Room: a benchmark from its sources to the report, and what it will cost."""
