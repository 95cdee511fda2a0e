"""Tables, plots and files of a campaign."""
