"""From the environment to values: settings, provider profiles, logging."""
