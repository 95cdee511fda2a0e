"""Settings of a campaign: from a campaign file to a flow."""
