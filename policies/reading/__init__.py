"""Finds facts in resources as they are sent to the provider; every parser here is lenient."""
