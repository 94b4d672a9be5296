"""What others are given: the bundle and its papers, and the proof that it can be made again."""
