"""From a campaign file to a flow, its store and its report."""
