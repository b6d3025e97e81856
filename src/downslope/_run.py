"""A run of `Trainer.fit` under way, as a checkpoint keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from downslope.history import History


@dataclass
class Run:
    """What decides the course of a run, and how far it is."""

    rows: int  # to train on; 0 if they come in batches
    validation_rows: int
    batch_size: int
    shuffle: bool
    sampling: str
    first_epoch: int
    history: History = field(default_factory=History)
    stopped: bool = False
    # Of the epoch under way: batches and rows done, the sum of their losses, the time they took.
    batch: int = 0
    met: int = 0
    total: float = 0.0
    seconds: float = 0.0

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return -(-self.rows // self.batch_size)

    def advance(self, total: float, batch: int) -> None:
        """Batches have been done: up to that number, with that sum of losses so far."""
        self.total, self.batch = total, batch
        self.met = min(batch * self.batch_size, self.rows)

    @property
    def settings(self) -> dict[str, Any]:
        """What must not change when the run is resumed."""
        names = ("rows", "validation_rows", "batch_size", "shuffle", "sampling")
        return {name: getattr(self, name) for name in names}

    def end_epoch(self, logs: dict[str, float]) -> None:
        """Enter the epoch into the history."""
        self.history.append(logs, self.seconds)
        self.batch, self.met, self.total, self.seconds = 0, 0, 0.0, 0.0


def compare(checkpoint: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse to resume what is not as it was."""
    for name, expected in checkpoint.items():
        if given[name] != expected:
            raise ValueError(
                f"the checkpoint was written with {name}={expected!r}, and here it is "
                f"{given[name]!r}: give what the interrupted run had, or begin without resume()"
            )
