"""``python -m fgnumba`` runs the command ``fgtrain``."""

from fgnumba.cli.main import main

if __name__ == "__main__":
    main()
