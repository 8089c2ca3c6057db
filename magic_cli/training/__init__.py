"""The one training loop, its state, devices, checkpoints, and the `Task` interface that it drives."""
