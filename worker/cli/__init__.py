"""What an operator types: one room for each thing that a command is about."""
