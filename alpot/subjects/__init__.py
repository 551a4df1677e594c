"""What a campaign learns: binds structures, exploration, reference, potential and validation into tasks."""
