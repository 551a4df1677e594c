"""The fake subject, with one label that takes all memory at its first attempt."""

import time

from fake_subject import FakeSubject


class HungrySubject(FakeSubject):
    def label(self, task_id, rng, spec):
        if self._is_first():
            hoard = []
            for _ in range(40):  # much more than a block has; the machine bears it for the moment
                hoard.append(bytearray(b"x" * 50_000_000))
                time.sleep(0.1)
            time.sleep(60)
        return super().label(task_id, rng, spec)

    def _is_first(self):
        try:
            (self.directory.path / "somebody-was-hungry").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
