"""The command line as click sees it, for the page that documents it."""

import typer

from convexsnn.cli import app

command = typer.main.get_command(app)
