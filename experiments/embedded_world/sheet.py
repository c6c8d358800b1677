"""``python experiments/embedded_world/sheet.py``: held-out clips of both worlds, one row each."""

from pathlib import Path

from interp_refiner.data import MovingShapes
from interp_refiner.data.codec.contact_sheet import contact_sheet
from interp_refiner.data.world import Bouncing, Gliding

CLIPS = {"gliding": (Gliding(), 10), "bouncing": (Bouncing(), 3)}

if __name__ == "__main__":
    rows = {
        f"{name} {number}": clip
        for name, (world, count) in CLIPS.items()
        for number, clip in enumerate(next(MovingShapes(world=world).clips("val", count))[2])
    }
    sheet = contact_sheet(list(rows.values()), list(rows), columns=11, title="held-out clips of the embedded worlds")
    sheet.save(Path(__file__).with_name("clips.png"), optimize=True)
