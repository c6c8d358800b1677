"""From video files to shards: videos are found, cut, encoded and written by any number of processes."""
