"""`python -m codegemma` is `codegemma`."""

from codegemma.cli.main import main

if __name__ == "__main__":
    main()
