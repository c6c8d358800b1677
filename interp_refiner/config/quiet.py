"""Hides library messages that do not help the user."""

import logging
import warnings

# Data comes as a stream, so "batches in an epoch" mean nothing. The argument that replaces DDP's deprecated one is not
# in torch 2.11. A resumed run continues in its own folder.
STALE = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r"The number of training batches .* is smaller than the logging interval.*",
    r"`broadcast_buffers` is deprecated.*",
    r"Checkpoint directory .* exists and is not empty.*",
)
NO_NEWS = ("💡 Tip", "GPU available: ", "TPU available: ", "`Trainer.fit` stopped: ")  # the run says its own device


def quiet_libraries() -> None:
    """Drops advertisements and warnings about other packages' internals; every other message stays."""
    for message in STALE:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.trainer.connectors.callback_connector"):
        logging.getLogger(name).addFilter(lambda record: not record.getMessage().startswith(NO_NEWS))
