"""``python -m sccengine``: the command line without relying on the console script being on PATH."""

from sccengine.cli.main import main

if __name__ == "__main__":
    main()
