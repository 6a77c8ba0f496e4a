"""The Typer app, one file a command: parse, call, render; no logic."""
