"""Reference vectors made with the papers' own code (package data, installed as `raysl.verify.vectors`)."""
