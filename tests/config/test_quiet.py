"""Only messages that do not help a user are dropped."""

import logging
import warnings

from interp_refiner.config import quiet_libraries


def test_advertisements_go_and_information_stays(caplog):
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with warnings.catch_warnings():
        quiet_libraries()
    with caplog.at_level(logging.INFO, log.name):
        log.info("💡 Tip: install something")
        log.info("GPU available: False")
        log.info("Using 16bit Automatic Mixed Precision (AMP)")
    assert caplog.messages == ["Using 16bit Automatic Mixed Precision (AMP)"]


def test_other_warnings_stay(recwarn):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", stacklevel=1)
        warnings.warn("sigma is taken as 0", stacklevel=1)
    assert [str(w.message) for w in shown] == ["sigma is taken as 0"]
