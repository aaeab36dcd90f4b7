"""What an operator sees and does, for the command line and for the operator's page alike."""
