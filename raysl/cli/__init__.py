"""The command line: one thin file per command; what a command does is in `raysl.api` and the rooms."""
