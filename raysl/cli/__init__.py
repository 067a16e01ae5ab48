"""The command line: one thin file per command, no logic; what a command does lives in `raysl.api` and the rooms."""
