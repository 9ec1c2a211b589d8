"""What a model is trained on and measured by. The rest of the engine imports nothing of it.

`dataset.Dataset` gives captioned sounds and videos that are synthesised, with the ground truth beside them;
`measures` says how much of what was asked for is in a sound. Everything is numpy and scipy, seeded, and the
same on every run.
"""
