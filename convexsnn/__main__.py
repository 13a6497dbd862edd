"""``python -m convexsnn``."""

from convexsnn.cli import main

if __name__ == "__main__":
    main()
