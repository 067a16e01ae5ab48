"""Recipes: one YAML file per row of a paper's table, and small ones of ours (package data)."""
