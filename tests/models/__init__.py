"""Tests of raysl.models."""
