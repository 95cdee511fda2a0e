"""Results of a campaign, read from a store."""
