"""Tests of raysl.losses."""
