"""What `doctor` concludes: one finding for each check, and a remedy for each that failed."""
