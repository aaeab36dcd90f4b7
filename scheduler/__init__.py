"""The scheduler: what is due is claimed and sent to the queue."""
