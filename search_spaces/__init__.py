"""Search spaces, one YAML file per method (package data, installed as `raysl.search_spaces`)."""
