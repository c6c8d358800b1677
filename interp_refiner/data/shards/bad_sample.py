"""What is wrong with a sample, said the same way everywhere."""


class BadSample(ValueError):
    """A sample cannot be used: names its shard, its key (empty where a whole shard is meant) and the reason."""

    def __init__(self, shard: str, key: str, reason: str):
        self.shard, self.key, self.reason = shard, key, reason
        super().__init__(f"{shard}: sample '{key}': {reason}" if key else f"{shard}: {reason}")
