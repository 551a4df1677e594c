"""The measurements behind ``scripts/bench_engine.py``: each module measures one thing in a process of its own."""
