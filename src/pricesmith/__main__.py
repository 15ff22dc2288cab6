"""`python -m pricesmith`: the command line, as torchrun and `accelerate launch` start it."""

from pricesmith.cli import main

if __name__ == "__main__":
    main()
