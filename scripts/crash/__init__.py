"""Breaks campaigns on purpose and counts what is lost; see ``scripts/crash_suite.py``."""
