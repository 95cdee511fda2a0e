"""Training, fine-tuning, evaluation and description of models."""
