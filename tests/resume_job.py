"""The run that test_resume.py kills: ``python -m tests.resume_job FOLDER``, slowed down to be found at work."""

import sys
import time

from tests.training_run import trainer

EPOCHS = 12


def job(out, pause=0.0, **settings):
    run = trainer(out, checkpoint_steps=3, **settings)
    step = run.optimizer.step

    def slow():
        step()
        time.sleep(pause)

    run.optimizer.step = slow
    run.fit(EPOCHS, resume=True)
    return run


if __name__ == "__main__":
    job(sys.argv[1], pause=0.01)
