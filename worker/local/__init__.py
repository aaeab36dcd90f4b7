"""Everything on one machine: `breezesync run`."""
