"""Each process of breezesync, built from the settings; none imports what only another one needs."""
