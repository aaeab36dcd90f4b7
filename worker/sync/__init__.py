"""Reading an account page by page."""
