"""``python -m mountkit``."""

from mountkit.cli import main

if __name__ == "__main__":
    main()
