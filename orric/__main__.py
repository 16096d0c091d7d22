"""Run the command line as `python -m orric`."""

from orric.cli import main

if __name__ == "__main__":
    main()
