"""`python -m cmprompt`."""

from cmprompt.cli.app import main

if __name__ == "__main__":
    main()
