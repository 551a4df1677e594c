from fake_campaign import InProcess

from alpot.campaign.settings import policy_settings
from alpot.config import Campaign


def test_decisions_follow_the_campaign_file():
    campaign = Campaign.model_validate(
        {
            "material": {"elements": ["Al"]},
            "reference": {"code": "emt", "attempts": 4},
            "training": {"initial_labels": 11, "labels_per_generation": 12},
            "stopping": {"max_labels": 13, "max_generations": 14, "force_error": 0.15, "audit_labels": 16}
            | {"confidence": 0.8, "out_of_reach": 21.0, "quiet_time": 17.0, "max_failures": 18, "good_generations": 20},
            "assessment": {"each_generation": ["lattice"], "compare_reference": True},
            "resources": {"waiting_candidates": 19},
        }
    )
    settings = policy_settings(campaign, InProcess(workers=3))
    assert settings.slots == {"workers": 3}
    assert (settings.initial_labels, settings.labels_per_generation, settings.max_labels) == (11, 12, 13)
    assert (settings.max_generations, settings.force_error, settings.audit_labels) == (14, 0.15, 16)
    assert (settings.quiet_time, settings.max_failures, settings.waiting_candidates) == (17.0, 18, 19)
    assert (settings.confidence, settings.out_of_reach) == (0.8, 21.0)
    assert (settings.attempts, settings.good_generations) == (4, 20)
