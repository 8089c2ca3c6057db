"""`python -m magic_cli` and `accelerate launch -m magic_cli` run the same program as `magic`."""

from magic_cli.cli import main

if __name__ == "__main__":
    main()
