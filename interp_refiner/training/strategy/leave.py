"""The end of a run of several processes."""

import torch.distributed as dist


def leave_processes() -> None:
    """Destroys the process group, so that rank zero can go on alone; a collective operation over all ranks.

    As long as there is a group, metrics of one rank wait for those of the others.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()  # no rank leaves while another communicates
        dist.destroy_process_group()
