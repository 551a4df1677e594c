"""Active learners on the same work; see ``scripts/bench_active_learning.py``."""
