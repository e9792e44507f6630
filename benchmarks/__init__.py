"""isthmus against its targets and its peers, measured in turn in one run. See README.md."""
