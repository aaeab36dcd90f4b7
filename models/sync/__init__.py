"""Reading an account: runs, records, what a full run proves to be gone, and when the next run is due."""
