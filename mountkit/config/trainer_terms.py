"""What ``mountkit run`` asks of each Trainer below its command, handed on in the environment."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

#: The variable that has it; ``writers/startup/sitecustomize.py`` knows it by this name.
VARIABLE = "MOUNTKIT_TRAINER"


@dataclass(frozen=True, slots=True)
class TrainerTerms:
    """What becomes of a Trainer.

    ``path``: Where the bucket is mounted; "" where the command runs without a mount. ``attach``:
    Whether it gets the callbacks, if its ``output_dir`` lies there. ``resume``: Whether it goes on
    from the newest checkpoint. ``on_failure``: As for ``CheckpointCallback``. ``load_path``: Whose
    weights it begins with where it does not go on from a checkpoint; "" for its own.
    """

    path: str
    attach: bool = True
    resume: bool = False
    on_failure: str = "raise"
    load_path: str = ""

    @property
    def idle(self) -> bool:
        """Whether nothing is asked of a Trainer."""
        return not ((self.attach and self.path) or self.resume or self.load_path)

    def to_text(self) -> str:
        """The value of the variable."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> TrainerTerms:
        """Read it; what a newer mountkit has put there is passed over."""
        told = json.loads(text)
        return cls(**{name: told[name] for name in cls.__dataclass_fields__ if name in told})
