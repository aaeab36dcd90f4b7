"""What an application may do through the gateway, and what each call of it comes to."""
