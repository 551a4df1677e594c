"""The fake subject, with labels computed by several ranks; it writes down what its workers were given."""

import os
import subprocess

from fake_subject import FakeSubject

from alpot.reference.launcher import with_launcher


class ParallelSubject(FakeSubject):
    def explore(self, task_id, rng, spec):
        self._note("gpus", os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
        return super().explore(task_id, rng, spec)

    def label(self, task_id, rng, spec):
        command = with_launcher(["printenv", "SLURMD_NODENAME", "OMP_NUM_THREADS"])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        words = " ".join(done.stdout.split()) or done.stderr
        self._note("ranks", f"{os.environ['SLURMD_NODENAME']}: {words}")
        return super().label(task_id, rng, spec)

    def _note(self, name, text):
        with (self.directory.path / name).open("a") as file:
            file.write(text + "\n")
