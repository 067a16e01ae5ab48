"""Tests of raysl.metrics."""
