"""The training loop shared by all tasks, with its state, devices and checkpoints, and the `Task` interface."""
