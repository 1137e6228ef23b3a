"""Arrays → features."""
