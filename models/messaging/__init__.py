"""What is said to and by the outside: events with their schemas, queue messages, commands."""
