"""Training, fine-tuning, evaluating and describing models."""
