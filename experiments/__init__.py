"""Launchers: each parses its flags, calls the library and writes files."""
