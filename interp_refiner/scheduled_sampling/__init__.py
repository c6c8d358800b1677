"""Which keyframes are shown as proposals instead of the truth."""

from interp_refiner.scheduled_sampling.scheduled_sampling import Never, Proposals, ScheduledSampling

__all__ = ["Never", "Proposals", "ScheduledSampling"]
