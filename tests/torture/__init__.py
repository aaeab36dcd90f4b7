"""Tests that break things at random and count: chaos, soak, interop, the life of a credential."""
