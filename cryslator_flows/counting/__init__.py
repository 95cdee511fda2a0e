"""Costs of relaxations, from the documents and the files that they leave."""

from cryslator_flows.counting.count import count_steps, total_cost

__all__ = ["count_steps", "total_cost"]
