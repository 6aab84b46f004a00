"""Sweeps: `get_config` returns a `base` configuration and `runs`, its overrides."""
