"""Brings together what the campaign file asks for and what the platform offers, in the terms of the policy."""

from __future__ import annotations

from alpot.campaign.executor import Platform
from alpot.campaign.policy import PolicySettings
from alpot.config import Campaign


def policy_settings(campaign: Campaign, platform: Platform) -> PolicySettings:
    """The settings on which decisions depend.

    Args:
        campaign: the campaign file.
        platform: where the work runs.
    """
    return PolicySettings(
        slots=platform.slots,
        pool_of=platform.pool_of,
        initial_labels=campaign.training.initial_labels,
        labels_per_generation=campaign.training.labels_per_generation,
        waiting_candidates=campaign.resources.waiting_candidates,
        attempts=campaign.reference.attempts,
        max_labels=campaign.stopping.max_labels,
        max_failures=campaign.stopping.max_failures,
        max_generations=campaign.stopping.max_generations,
        force_error=campaign.stopping.force_error,
        audit_labels=campaign.stopping.audit_labels,
        confidence=campaign.stopping.confidence,
        out_of_reach=campaign.stopping.out_of_reach,
        quiet_time=campaign.stopping.quiet_time,
        good_generations=campaign.stopping.good_generations,
        isolated_atoms=campaign.reference.wants_isolated_atoms,
        start_weights=tuple(table.weight for table in campaign.material.starts),
    )
