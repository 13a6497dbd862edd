"""What tests of the command line look for."""


def one_line(err):
    """Return what an error line says after the name of the program."""
    assert err.startswith("convexsnn: error: ") and err.endswith("\n") and err.count("\n") == 1
    return err.removeprefix("convexsnn: error: ").strip()


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())
