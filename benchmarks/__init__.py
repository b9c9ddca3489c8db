"""Measurements. `python -m benchmarks [NAME]` runs one or all of them and merges their figures into `results.json`."""
