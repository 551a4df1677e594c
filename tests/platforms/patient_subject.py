"""The fake subject, whose trainings take their time, note each step outside, and save themselves."""

import time

from fake_subject import FakeSubject

from alpot.store.checkpoint import Saved

STEPS = 40


class PatientSubject(FakeSubject):
    def run(self, assignment):
        self.checkpoint = assignment.checkpoint
        return super().run(assignment)

    def train(self, task_id, rng, spec):
        saved = self.checkpoint.load(task_id)
        first = 0 if saved is None else saved.facts["step"]
        for step in range(first, STEPS):
            self.checkpoint.offer(task_id, step, lambda step=step: Saved({}, {"step": step}))
            with (self.directory.path / "steps.log").open("a") as log:
                log.write(f"{task_id} {step}\n")
            time.sleep(0.25)
        return super().train(task_id, rng, spec)
