"""Measurements, as ratios against a peer in the same run where there is one; see docs/BENCHMARKS.md."""
