"""`python -m raysl` is the command `raysl`."""

from raysl.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
