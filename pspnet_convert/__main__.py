"""`python -m pspnet_convert`: the same as the console script."""

from pspnet_convert.cli import main

if __name__ == "__main__":
    main()
