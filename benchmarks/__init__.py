"""What the pipeline takes, measured on the local stack."""
