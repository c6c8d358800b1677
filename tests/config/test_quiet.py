"""Only messages that do not help a user are dropped."""

import logging
import os
import warnings

from interp_refiner.config import quiet_libraries
from interp_refiner.config.terminal import log_any_name


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


def test_the_log_file_takes_names_that_are_not_utf_8(tmp_path, monkeypatch):
    handler = logging.FileHandler(tmp_path / "a.log", encoding="utf-8")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    log_any_name()
    name = os.fsdecode(b"caf\xe9.mp4")
    handler.handle(logging.makeLogRecord({"msg": f"{name} \u00e9"}))
    handler.close()
    assert (tmp_path / "a.log").read_text("utf-8") == "caf\\udce9.mp4 \u00e9\n"
