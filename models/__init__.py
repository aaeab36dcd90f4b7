"""What breezesync decides and remembers: a pure core, its secrets, and the one place that speaks SQL."""
