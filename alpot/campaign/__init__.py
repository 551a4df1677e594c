"""Decides what is done next, and carries it out; knows no atoms."""
