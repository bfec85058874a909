"""Stages chained into one run; each stage skips what it has done."""
