"""A virtual-time cluster and three sets of rules to run a campaign on it, see ``scripts/simulate_campaign.py``."""
